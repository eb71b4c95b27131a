// Arrows go on and back; n: notes; p: a second window with notes that follows; f: the whole screen.
const slides = [...document.querySelectorAll("section")];
let other = window.opener;
const draw = (slide) => slide.querySelectorAll(".plotly-figure:not(.drawn)").forEach((box) => {
  const spec = JSON.parse(box.querySelector("script").textContent);
  const layout = { ...spec.layout, autosize: true };
  delete layout.width;
  delete layout.height;
  box.classList.add("drawn");
  Plotly.newPlot(box, spec.data, layout, { responsive: true, displayModeBar: false });
});
function fit(slide) { // smaller letters where a slide has more than the window
  const zoom = Math.min(innerHeight / 576, innerWidth / 1024); // a figure's, as the letters'
  document.body.style.setProperty("--zoom", zoom);
  slide.style.fontSize = "";
  if (document.body.classList.contains("notes")) return;
  const tooLarge = () => slide.scrollHeight > innerHeight + 1 || slide.scrollWidth > innerWidth;
  for (let size = 95; size >= 60 && tooLarge(); size -= 5)
    slide.style.fontSize = `${size}%`;
}
function show(number, tell = true) {
  const at = Math.max(0, Math.min(slides.length - 1, number || 0));
  slides.forEach((slide, i) => slide.classList.toggle("now", i === at));
  fit(slides[at]);
  draw(slides[at]);
  document.body.dataset.at = `${at + 1} / ${slides.length}`;
  history.replaceState(null, "", `#${at + 1}`);
  if (tell && other) other.postMessage(at, "*");
  window.at = at;
}
const steps = { ArrowRight: 1, PageDown: 1, " ": 1, ArrowLeft: -1, PageUp: -1 };
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key in steps) show(window.at + steps[event.key]);
  else if (event.key === "Home") show(0);
  else if (event.key === "End") show(slides.length - 1);
  else if (event.key === "n") document.body.classList.toggle("notes");
  else if (event.key === "f") document.documentElement.requestFullscreen();
  else if (event.key === "p") other = window.open(`${location.pathname}?notes#${window.at + 1}`, "notes", "width=900,height=700");
  else return;
  event.preventDefault();
  window.dispatchEvent(new Event("resize"));
});
addEventListener("message", (event) => event.source === other && show(event.data, false));
addEventListener("resize", () => fit(slides[window.at]));
const drawn = (size) => document.querySelectorAll(".drawn").forEach((box) => Plotly.relayout(box, size));
addEventListener("beforeprint", () => {
  slides.forEach(draw);
  drawn({ width: 840, height: 380 });
});
addEventListener("afterprint", () => drawn({ autosize: true }));
if (location.search === "?notes") document.body.classList.add("notes");
show(parseInt(location.hash.slice(1)) - 1, false);
