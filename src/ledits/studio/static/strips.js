// Below the picture: the pictures of the work, which share one stack, and the history of results.
import { $, el, icon, toast } from "./dom.js";
import { engine } from "./engine.js";
import { named, work } from "./work.js";

const MOST = 40;
const SIDE = 128; // pixels of a thumbnail's longer side
const KEPT = "ledits-history"; // in this tab alone, and over a reload
let history = []; // {snapshot, from, thumb, label}: from is what the result was made from

export function start(open) {
  history = JSON.parse(sessionStorage.getItem(KEPT) ?? "[]");
  work.addEventListener("change", draw);
  engine.addEventListener("result", ({ detail }) => {
    if (detail.fresh) remember(detail.result).then(draw);
    draw();
  });
  engine.addEventListener("inverted", draw);
  $("strips").addEventListener("click", (event) => event.target.closest(".new") && open());
}

const madeFrom = (picture) => picture && engine.resultKey(picture, engine.request(picture));

async function remember(result) {
  const snapshot = work.now;
  const label = snapshot.edits.filter((edit) => !edit.muted).map(named).join(", ");
  const from = madeFrom(work.picture);
  const thumb = await small(result.blob);
  history = [{ snapshot, from, thumb, label }, ...history.filter((entry) => entry.from !== from)].slice(0, MOST);
  // Painted regions are large: where there is no room for all, the latest are kept.
  for (let most = history.length; most; most = Math.floor(most / 2)) {
    try {
      return sessionStorage.setItem(KEPT, JSON.stringify(history.slice(0, most)));
    } catch (error) {
      if (error.name !== "QuotaExceededError") throw error;
    }
  }
}

async function small(blob) {
  const bitmap = await createImageBitmap(blob);
  const share = Math.min(1, SIDE / Math.max(bitmap.width, bitmap.height));
  const canvas = el("canvas", { width: Math.ceil(bitmap.width * share), height: Math.ceil(bitmap.height * share) });
  canvas.getContext("2d").drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  return canvas.toDataURL("image/webp", 0.9);
}

function draw() {
  const { pictures, active } = work.now;
  $("strips").hidden = !pictures.length;
  $("pictures").replaceChildren(
    ...pictures.map((picture) => {
      const file = engine.files.get(picture.key);
      const url = engine.result(picture)?.url ?? file?.url;
      return el("button", {
        class: "thumb", "aria-pressed": String(picture.key === active), "aria-label": `Picture ${picture.name}`, title: picture.name,
        onclick: () => work.change((next) => { next.active = picture.key; }),
      }, url ? el("img", { src: url, alt: "" }) : icon("picture"));
    }),
    el("button", { class: "thumb new", "aria-label": "Add a picture", title: "Add a picture: it gets the same edits" }, icon("plus")),
    ...(pictures.length > 1 ? [el("button", { class: "button small", id: "edit-all", onclick: editAll, disabled: !engine.request(work.picture) }, "Edit all")] : []),
  );
  const now = madeFrom(work.picture);
  $("history").replaceChildren(...history.filter(({ snapshot }) => snapshot.active === active).map(({ snapshot, from, thumb, label }) => el("button", {
    class: "thumb", title: label, "aria-label": `Go back to ${label}`, "aria-pressed": String(from === now), onclick: () => work.restore(snapshot),
  }, el("img", { src: thumb, alt: "" }))));
  $("history").closest(".strip").hidden = !$("history").children.length;
  $("save-all").hidden = pictures.length < 2;
}

async function editAll() {
  try {
    for (const picture of work.now.pictures) {
      await engine.editOther(picture);
      draw();
    }
    toast("All pictures are edited");
  } catch (error) {
    toast(error.message, { error: true });
  }
}
