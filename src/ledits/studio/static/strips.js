// Below the picture: the pictures of the work, which share one stack, and the history of results.
import { $, el, icon, toast } from "./dom.js";
import { engine } from "./engine.js";
import { t } from "./texts.js";
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
  document.addEventListener("dragend", () => { dragged = false; });
  $("strips").addEventListener("click", (event) => event.target.closest(".new") && open());
}

let dragged = false; // a picture of the page, which is not one that comes
export const drags = () => dragged;

/** Let a thumbnail be dragged out of the page as the picture's file. */
const drag = (name, url) => (url === undefined ? {} : { draggable: true, ondragstart: (event) => {
  dragged = true;
  event.dataTransfer.setData("DownloadURL", `image/png:${name.replace(/\.[a-z0-9]+$/i, "")}-edited.png:${new URL(url, location.href).href}`);
} });

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
        class: "thumb", "aria-pressed": String(picture.key === active), "aria-label": t("picture_named", { name: picture.name }), title: picture.name,
        ...drag(picture.name, engine.result(picture)?.url),
        onclick: () => work.change((next) => { next.active = picture.key; }),
      }, url ? el("img", { src: url, alt: "" }) : icon("picture"));
    }),
    el("button", { class: "thumb new", "aria-label": t("add_picture"), title: t("add_picture_why") }, icon("plus")),
    ...(pictures.length > 1 ? [el("button", { class: "button small", id: "edit-all", onclick: editAll, disabled: !engine.request(work.picture) }, t("edit_all"))] : []),
  );
  const now = madeFrom(work.picture);
  $("history").replaceChildren(...history.filter(({ snapshot }) => snapshot.active === active).map(({ snapshot, from, thumb, label }) => el("button", {
    class: "earlier", title: label, "aria-label": t("go_back", { edits: label }), "aria-pressed": String(from === now), onclick: () => work.restore(snapshot),
    ...drag(label, engine.kept(from)?.url),
  }, el("img", { src: thumb, alt: "", draggable: "false" }), el("span", {}, label))));
  $("history").closest(".strip").hidden = !$("history").children.length;
  $("save-all").hidden = pictures.length < 2;
}

async function editAll() {
  try {
    for (const picture of work.now.pictures) {
      await engine.editOther(picture);
      draw();
    }
    toast(t("all_edited"));
  } catch (error) {
    toast(error.message, { error: true });
  }
}
