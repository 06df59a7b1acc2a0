/** The worker that computes on the graphics card. */

import * as ort from "onnxruntime-web/webgpu";
import { serve } from "./worker.js";

serve(ort, "webgpu");
