// The keyboard: one key for each thing that is done often.
import { $, el } from "./dom.js";
import { brush } from "./brush.js";
import { engine } from "./engine.js";
import { stage } from "./stage.js";
import { work } from "./work.js";

const mac = navigator.platform.startsWith("Mac");
const KEYS = [
  [["Ctrl", "Z"], "Undo"], [["Ctrl", "Shift", "Z"], "Redo"], [["O"], "Open a picture"], [["N"], "Say what should change"],
  [["Space"], "Hold to see the original"], [["1"], "Compare"], [["2"], "Result"], [["3"], "Original"], [["4"], "Rebuilt, without edits"],
  [["M"], "Show where edits act"], [["+"], "Zoom in"], [["−"], "Zoom out"], [["0"], "Fit to window"], [["P"], "Sharp pixels"],
  [["B"], "Brush"], [["X"], "Box"], [["E"], "Eraser"], [["["], "Smaller brush"], [["]"], "Larger brush"],
  [["S"], "Find the strength"], [["Ctrl", "S"], "Download"], [["Esc"], "Stop, or leave the brush"],
];

export function start(open) {
  $("help-list").append(...KEYS.flatMap(([keys, text]) => [
    el("dt", {}, ...keys.map((key) => el("kbd", {}, key === "Ctrl" && mac ? "⌘" : key))), el("dd", {}, text),
  ]));
  $("help-button").addEventListener("click", () => $("help").showModal());
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
    if (types || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    const act = {
      o: open, n: () => $("instruction").focus(), m: () => stage.toggleMasks(), "+": () => stage.zoom(1.5), "=": () => stage.zoom(1.5),
      "-": () => stage.zoom(1 / 1.5), 0: () => stage.fit(), p: () => stage.toggleCrisp(), s: () => $("sheet-button").click(),
      1: () => stage.show("compare"), 2: () => stage.show("after"), 3: () => stage.show("before"), 4: () => stage.show("rebuilt"),
      b: () => paint("brush"), x: () => paint("box"), e: () => paint("erase"), "[": () => brush.size(-5), "]": () => brush.size(5),
      "?": () => $("help").showModal(), Escape: () => (brush.edit ? brush.end() : engine.cancel()),
      " ": event.target.matches("button, summary, [role=switch]") ? null : () => stage.hold(true),
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
