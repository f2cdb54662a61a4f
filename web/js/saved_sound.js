/** Save Image that Sounds plays what it saved as ComfyUI's own Save Audio does: by the front end's audio widget, above the picture. */

import { app } from "../../../scripts/app.js";

app.registerExtension({
  name: "ImagesThatSound.SavedSound",
  beforeRegisterNodeDef(nodeType, nodeData) {
    if (nodeData.name === "SaveImageThatSounds") {
      nodeData.input.required.audioUI = ["AUDIO_UI", {}];
    }
  },
});
