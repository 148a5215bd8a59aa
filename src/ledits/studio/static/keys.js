// The keyboard: one key for each thing that is done often.
import { $, el } from "./dom.js";
import { brush } from "./brush.js";
import { engine } from "./engine.js";
import { stage } from "./stage.js";
import { t } from "./texts.js";
import { work } from "./work.js";

const mac = navigator.platform.startsWith("Mac");
const KEYS = [
  [["Ctrl", "Z"], "undo"], [["Ctrl", "Shift", "Z"], "redo"], [["O"], "key_open"], [["N"], "key_say"],
  [["Space"], "key_hold"], [["1"], "result"], [["2"], "compare"], [["3"], "original"], [["4"], "rebuilt"],
  [["M"], "key_masks"], [["+"], "zoom_in"], [["−"], "zoom_out"], [["0"], "zoom_fit"], [["P"], "crisp"],
  [["B"], "brush"], [["X"], "box"], [["W"], "wand"], [["E"], "eraser"], [["["], "key_smaller"], [["]"], "key_larger"],
  [["S"], "strengths"], [["V"], "variations"], [["Ctrl", "C"], "key_copy"], [["Ctrl", "S"], "download"], [["Esc"], "key_stop"],
];

export function start(open) {
  const list = () => $("help-list").replaceChildren(...KEYS.flatMap(([keys, name]) => [
    el("dt", {}, ...keys.map((key) => el("kbd", {}, key === "Ctrl" && mac ? "⌘" : key))), el("dd", {}, t(name)),
  ]));
  list();
  document.addEventListener("language", list);
  $("help-button").addEventListener("click", () => {
    $("menu").hidePopover();
    $("help").showModal();
  });
  document.addEventListener("keydown", (event) => {
    const types = event.target.matches("input:not([type=range]):not([type=checkbox]), textarea, select");
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    if ((event.ctrlKey || event.metaKey) && !types) {
      if (key === "z") event.shiftKey ? work.redo() : work.undo();
      else if (key === "y") work.redo();
      else if (key === "s" && !$("save").disabled) $("save").click();
      else return;
      event.preventDefault();
      return;
    }
    // Escape belongs to an open menu first.
    if (key === "Escape" && document.querySelector(":popover-open")) return;
    if (types || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    const act = {
      o: open, n: () => $("instruction").focus(), m: () => stage.toggleMasks(), "+": () => stage.zoom(1.5), "=": () => stage.zoom(1.5),
      "-": () => stage.zoom(1 / 1.5), 0: () => stage.fit(), p: () => stage.toggleCrisp(), s: () => $("sheet-button").click(),
      1: () => stage.show("after"), 2: () => stage.show("compare"), 3: () => stage.show("before"), 4: () => stage.show("rebuilt"),
      b: () => paint("brush"), x: () => paint("box"), e: () => paint("erase"), w: () => paint("wand"), v: () => $("variations-button").click(), "[": () => brush.size(-5), "]": () => brush.size(5),
      "?": () => $("help").showModal(), Escape: () => (brush.edit ? brush.end() : engine.cancel()),
      " ": event.target.matches("button, summary, select, [role=switch]") ? null : () => stage.hold(true),
    }[key];
    if (!act || (!work.picture && !"o?".includes(key))) return;
    event.preventDefault();
    act();
  });
  document.addEventListener("keyup", (event) => event.key === " " && stage.hold(false));
}

/** Take a tool, for the edit that is being painted or else the last one. */
function paint(tool) {
  const edit = work.now.edits.at(-1);
  if (!brush.edit && edit) brush.begin(edit.key);
  if (brush.edit) brush.choose(tool);
}
