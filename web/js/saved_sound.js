// Save Image that Sounds plays its sound as ComfyUI's own Save Audio does: with the front end's audio widget, below the picture.

import { app } from "../../../scripts/app.js";

app.registerExtension({
    name: "ImagesThatSound.SavedSound",
    beforeRegisterNodeDef(nodeType, nodeData) {
        if (nodeData.name === "SaveImageThatSounds") {
            nodeData.input.required.audioUI = ["AUDIO_UI", {}];
        }
    },
});
