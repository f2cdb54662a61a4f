"""What ties the method to ComfyUI and has no node in it: the guider, model folders, engines of the nodes, and what comes in by sockets."""
