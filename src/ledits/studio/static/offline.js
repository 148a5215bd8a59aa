// The page while the server does not run.
import { speak } from "./texts.js";

speak().then(() => document.body.classList.add("ready"));
