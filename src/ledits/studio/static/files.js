// Files in and out: pictures, recipes and inversions are opened; results, recipes, inversions and links are kept.
import * as api from "./api.js";
import { $, ask, blobOf, toast } from "./dom.js";
import { engine } from "./engine.js";
import * as share from "./share.js";
import * as targets from "./targets.js";
import { t } from "./texts.js";
import { newEdit, newKey, work } from "./work.js";

/** Open whatever was dropped, pasted or chosen. */
export async function open(files) {
  const list = [...files];
  const inversion = list.find((file) => file.name.endsWith(".safetensors"));
  const recipes = list.filter((file) => file.name.endsWith(".json"));
  const pictures = list.filter((file) => file !== inversion && !recipes.includes(file));
  const each = [
    ...pictures.map((file) => [file, openPicture]),
    ...recipes.map((file) => [file, async () => openRecipe(await file.text())]),
    ...(inversion ? [[inversion, openInversion]] : []),
  ];
  for (const [file, read] of each) {
    try {
      await read(file);
    } catch (error) {
      if (error.name === "AbortError") continue;
      const why = /\.hei[cf]$/i.test(file.name) && error.code === "invalid_image" ? t("heic") : error.message;
      toast(t("failed_file", { name: file.name || t("pasted"), why }), { error: true });
    }
  }
}

async function openPicture(file) {
  // The server is asked in any case: what it can't read is said before anything of it is on the page.
  const recipe = await recipeIn(file);
  if (recipe && await ask(t("made_with"), t("made_with_why"), t("open_edits"), t("open_as_is"))) return openRecipe(JSON.stringify(recipe));
  return addPicture(file, file.name || t("pasted"));
}

/** Add a picture to the work and show it, with the edits that there are or with others. */
export async function addPicture(blob, name, caption = "", edits = work.now.edits) {
  const key = newKey();
  engine.files.set(key, await described(blob));
  const first = !work.now.pictures.length;
  const next = structuredClone({ ...work.now, edits });
  next.pictures.push({ key, name, caption, anyway: false });
  next.active = key;
  // The first picture is where work begins: there is nothing before it to go back to.
  if (first) work.begin(next);
  else work.change((now) => Object.assign(now, next));
}

/** Go on from the result: it becomes a picture of its own, with nothing changed about it yet. */
export async function goOn() {
  const { picture } = work;
  const result = engine.result(picture);
  if (result) await addPicture(result.blob, `${stem(picture.name)}-edited.png`, await targets.afterAll(), []);
}

async function described(blob) {
  try {
    const bitmap = await createImageBitmap(blob);
    const { width, height } = bitmap;
    bitmap.close();
    return { blob, url: URL.createObjectURL(blob), width, height };
  } catch {
    return { blob, url: null, width: 0, height: 0 }; // a TIFF, say: the server can read it and will show it
  }
}

async function recipeIn(file) {
  const form = new FormData();
  form.append("image", file, "picture");
  const { recipe } = await api.post("/v1/recipes", form);
  return recipe;
}

async function openRecipe(text) {
  let recipe;
  try {
    recipe = JSON.parse(text);
  } catch {
    recipe = null;
  }
  if (!Array.isArray(recipe?.edits)) throw new api.Refusal(t("not_a_recipe"));
  const edits = [];
  for (const [k, edit] of recipe.edits.entries()) {
    const { edits: [read] } = await api.post("/v1/parse", { text: edit });
    edits.push({ ...fromServer(read), region: recipe.regions?.[k] ?? null });
  }
  const { settings = {}, composite = false } = recipe;
  work.change((next) => {
    next.edits = edits.map(({ region, ...edit }) => ({ ...edit, regions: region && next.active ? { [next.active]: `data:image/png;base64,${region}` } : {} }));
    next.composite = composite;
    for (const name of ["steps", "skip", "seed"]) next.settings[name] = settings[name] ?? null;
    next.settings.use_lora = settings.use_lora || null;
    const picture = next.pictures.find(({ key }) => key === next.active);
    if (picture) picture.caption = settings.source ?? picture.caption;
  });
  if (!work.picture) waiting(t("edits_wait"));
  else toast(t("recipe_opened", { edits: recipe.edits.join(", ") }));
}

/** Edits as the server has them become cards. */
export function fromServer(edit) {
  const { kind, old, new: fresh, scale, threshold, first, last } = edit;
  return newEdit(kind, { old, new: fresh, scale, threshold, first, last });
}

function waiting(text) {
  $("welcome-title").textContent = t("choose_original");
  $("welcome-text").textContent = text;
}

async function openInversion(file) {
  const picture = work.picture;
  if (!picture) throw new api.Refusal(t("picture_first"));
  const form = new FormData();
  form.append("image", engine.files.get(picture.key).blob, "picture");
  form.append("inversion", file, "inversion.safetensors");
  const inversion = await api.post("/v1/inversions/file", form);
  const { source: caption, steps, skip, seed, use_lora } = inversion;
  const settings = { ...work.now.settings, steps, skip, seed, use_lora: use_lora || null };
  engine.remember({ ...picture, caption }, inversion, settings);
  work.change((next) => {
    next.settings = settings;
    next.pictures.find(({ key }) => key === picture.key).caption = caption;
  });
  toast(t("inversion_opened"));
}

const stem = (name) => name.replace(/\.[a-z0-9]+$/i, "") || "picture";

function download(blob, name) {
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

export async function save(what) {
  const picture = work.picture;
  const name = stem(picture.name);
  if (what === "all") {
    for (const each of work.now.pictures) download((await engine.editOther(each)).blob, `${stem(each.name)}-edited.png`);
    return;
  }
  if (what === "inversion") return download(await api.blob(`/v1/inversions/${(await engine.invert(picture)).id}/file`), `${name}.safetensors`);
  const result = engine.result(picture);
  if (!result) throw new api.Refusal(t("no_result"));
  if (what === "png") download(result.blob, `${name}-edited.png`);
  else if (what === "recipe") download(new Blob([JSON.stringify(result.recipe, null, 2)], { type: "application/json" }), `${name}-recipe.json`);
  else if (what === "copy") {
    await navigator.clipboard.write([new ClipboardItem({ "image/png": result.blob })]);
    toast(t("picture_copied"));
  } else if (what === "pair") download(await share.pair(engine.files.get(picture.key).url, result.url), `${name}-before-after.png`);
  else if (what === "video") download(await share.video(engine.files.get(picture.key).url, result.url), `${name}-before-after.webm`);
  else if (what === "command") {
    await navigator.clipboard.writeText(command(picture, result.recipe));
    toast(t("command_copied"));
  } else {
    // Encoded by the server, which writes the recipe into these formats too.
    const { id } = engine.inversion(picture);
    const made = await api.post(`/v1/inversions/${id}/edits`, { ...engine.request(picture), format: what, previews: false });
    download(blobOf(made.image, `image/${what}`), `${name}-edited.${what === "jpeg" ? "jpg" : what}`);
  }
}

function command(picture, recipe) {
  const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;
  const { source, steps, skip, seed } = recipe.settings;
  return ["ledits edit", quoted(picture.name), ...recipe.edits.map(quoted), source && `--source ${quoted(source)}`, `--steps ${steps} --skip ${skip} --seed ${seed}`, recipe.composite && "--composite"].filter(Boolean).join(" ");
}

// The link: the whole work, packed, behind the "#" of the address, which no browser sends to the server. Pictures are
// named by their inversions, which the server keeps.

const stream = (bytes, through) => new Response(new Blob([bytes]).stream().pipeThrough(through)).arrayBuffer();

export async function link() {
  const { pictures, active, edits, composite, settings } = work.now;
  const kept = pictures.filter((picture) => engine.inversion(picture));
  if (!kept.length) return "";
  const about = { pictures: kept.map((picture) => ({ ...picture, inversion: engine.inversion(picture).id })), active, edits, composite, settings };
  const packed = new Uint8Array(await stream(new TextEncoder().encode(JSON.stringify(about)), new CompressionStream("deflate-raw")));
  let binary = "";
  for (const byte of packed) binary += String.fromCharCode(byte);
  return btoa(binary).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

/** The work that a link names; false where the server doesn't keep its pictures any more. */
export async function reopen(text) {
  const binary = atob(text.replaceAll("-", "+").replaceAll("_", "/"));
  const bytes = await stream(Uint8Array.from(binary, (c) => c.charCodeAt(0)), new DecompressionStream("deflate-raw"));
  const about = JSON.parse(new TextDecoder().decode(bytes));
  const opened = [];
  for (const { inversion: id, ...picture } of about.pictures) {
    try {
      const inversion = await api.get(`/v1/inversions/${id}`);
      engine.files.set(picture.key, await described(await api.blob(`/v1/inversions/${id}/picture`)));
      opened.push([picture, inversion]);
    } catch (error) {
      if (error.status !== 404) throw error;
    }
  }
  const pictures = opened.map(([picture]) => picture);
  const active = pictures.some(({ key }) => key === about.active) ? about.active : pictures[0]?.key ?? null;
  work.begin({ pictures: [], active: null, edits: about.edits, composite: about.composite, settings: about.settings });
  for (const [picture, inversion] of opened) engine.remember(picture, inversion);
  work.begin({ ...work.now, pictures, active });
  if (!pictures.length) waiting(t("picture_gone"));
}
