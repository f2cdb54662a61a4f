"""Images that sound: the method in plain torch (Chen, Geng, Owens, arXiv 2405.12221). Knows nothing of ComfyUI."""
