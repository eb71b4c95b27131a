// Draws the figures of a page; plotly.min.js is loaded before.
document.querySelectorAll(".plotly-figure").forEach((box) => {
  const spec = JSON.parse(box.querySelector("script").textContent);
  const plot = document.createElement("div");
  plot.style.minWidth = Math.min(spec.layout.width || 720, 720) + "px"; // narrower: it scrolls
  box.appendChild(plot);
  const layout = { ...spec.layout, autosize: true };
  delete layout.width;
  Plotly.newPlot(plot, spec.data, layout, {
    responsive: true,
    displaylogo: false,
    modeBarButtonsToRemove: ["sendDataToCloud", "sendChartToCloud"],
  });
});
// A figure in a fold has no width until the fold opens.
document.querySelectorAll("details").forEach((fold) =>
  fold.addEventListener("toggle", () => window.dispatchEvent(new Event("resize")))
);
