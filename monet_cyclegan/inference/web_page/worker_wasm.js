/** The worker that computes on the processor. */

import * as ort from "onnxruntime-web/wasm";
import { serve } from "./worker.js";

serve(ort, "wasm");
