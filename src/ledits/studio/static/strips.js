// Below the picture: the pictures of the work, which share one stack, and the history of results.
import { $, el, icon, toast } from "./dom.js";
import { engine } from "./engine.js";
import { named, work } from "./work.js";

const MOST = 40;
const history = []; // {snapshot, url, label, key}

export function start(open) {
  work.addEventListener("change", draw);
  engine.addEventListener("result", ({ detail }) => {
    if (detail.fresh) remember(detail.result);
    draw();
  });
  engine.addEventListener("inverted", draw);
  $("strips").addEventListener("click", (event) => event.target.closest(".new") && open());
}

function remember(result) {
  const snapshot = work.now;
  const label = snapshot.edits.filter((edit) => !edit.muted).map(named).join(", ");
  history.unshift({ snapshot, url: result.url, label });
  history.splice(MOST);
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
  $("history").replaceChildren(...history.filter(({ snapshot }) => snapshot.active === active).map(({ snapshot, url, label }) => el("button", {
    class: "thumb", title: label, "aria-label": `Go back to ${label}`, "aria-pressed": String(engine.shown?.url === url), onclick: () => work.restore(snapshot),
  }, el("img", { src: url, alt: "" }))));
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
