/** Save Image that Sounds plays what it saved as ComfyUI's own Save Audio does: by the front end's audio widget, above the picture. */

import { app } from "../../../scripts/app.js";

const NODE = "SaveImageThatSounds";

app.registerExtension({
  name: "imagesthatsound.saved_sound",
  beforeRegisterNodeDef(nodeType, nodeData) {
    if (nodeData.name === NODE) {
      nodeData.input.required.audioUI = ["AUDIO_UI", {}];
    }
  },
});
