// What makes the page an app: everything comes from the server, and while that does not run, a page says how to start it.
const KEPT = "ledits-offline";
const OFFLINE = ["offline.html", "offline.js", "texts.js", "style.css", "icon.svg", ...["en", "de", "es", "fr", "zh", "ar"].map((name) => `texts/${name}.json`)];

self.addEventListener("install", (event) => {
  event.waitUntil(caches.open(KEPT).then((cache) => cache.addAll(OFFLINE)));
  self.skipWaiting();
});

self.addEventListener("fetch", (event) => {
  const { request } = event;
  const name = new URL(request.url).pathname.slice(1);
  if (request.mode === "navigate") event.respondWith(fetch(request).catch(() => caches.match("offline.html")));
  else if (OFFLINE.includes(name)) event.respondWith(fetch(request).catch(() => caches.match(name)));
});
