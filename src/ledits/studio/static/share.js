// Before and after in one file: side by side as a picture, or as a short video in which the line between them moves.
import { Refusal } from "./api.js";
import { el } from "./dom.js";
import { t } from "./texts.js";

const SECONDS = 4;
const LONGEST = 1080; // pixels of a video's longer side

async function both(before, after) {
  return Promise.all([before, after].map(async (src) => {
    const image = Object.assign(new Image(), { src });
    await image.decode();
    return image;
  }));
}

/** Both pictures, side by side where they are upright and one above the other where they are wide. */
export async function pair(before, after) {
  const images = await both(before, after);
  const { naturalWidth: width, naturalHeight: height } = images[0];
  const gap = Math.max(2, Math.round(0.02 * Math.max(width, height)));
  const wide = width > 1.5 * height;
  const canvas = el("canvas", wide ? { width, height: 2 * height + gap } : { width: 2 * width + gap, height });
  const context = canvas.getContext("2d");
  context.fillStyle = "#fff";
  context.fillRect(0, 0, canvas.width, canvas.height);
  images.forEach((image, k) => context.drawImage(image, wide ? 0 : k * (width + gap), wide ? k * (height + gap) : 0, width, height));
  return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
}

/** The line moves over the picture and back. */
export async function video(before, after) {
  const type = ["video/webm;codecs=vp9", "video/webm;codecs=vp8", "video/webm"].find((each) => globalThis.MediaRecorder?.isTypeSupported(each));
  if (!type) throw new Refusal(t("no_video"));
  const images = await both(before, after);
  const share = Math.min(1, LONGEST / Math.max(images[0].naturalWidth, images[0].naturalHeight));
  // Encoders want even sides.
  const [width, height] = [images[0].naturalWidth, images[0].naturalHeight].map((side) => Math.max(2, 2 * Math.round(side * share / 2)));
  const canvas = el("canvas", { width, height });
  const context = canvas.getContext("2d");
  const recorder = new MediaRecorder(canvas.captureStream(30), { mimeType: type, videoBitsPerSecond: 6e6 });
  const parts = [];
  recorder.addEventListener("dataavailable", ({ data }) => parts.push(data));
  const ended = new Promise((resolve) => recorder.addEventListener("stop", resolve));
  const began = performance.now();
  const draw = () => {
    const passed = (performance.now() - began) / (1000 * SECONDS);
    // Half a second of the original, over to the result, a rest there.
    const line = Math.round(width * Math.max(0, Math.min(1, 1.6 * passed - 0.2)));
    context.drawImage(images[0], 0, 0, width, height);
    if (line) {
      const from = line * images[1].naturalWidth / width;
      context.drawImage(images[1], 0, 0, from, images[1].naturalHeight, 0, 0, line, height);
      context.fillStyle = "#fff";
      if (line < width) context.fillRect(line - 1, 0, 2, height);
    }
    if (passed < 1) requestAnimationFrame(draw);
    else recorder.stop();
  };
  draw();
  recorder.start();
  await ended;
  return new Blob(parts, { type: "video/webm" });
}
