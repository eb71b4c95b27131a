// The page of `r1lab watch --browser`: asks for what is new, and draws it. The HTML that comes was
// made, and escaped, by r1lab/show/page.py; completions reach the page in no other way.
(() => {
  const $ = (name) => document.getElementById(name);
  const EVERY = 2000; // ms
  let seen = "";

  function drawFigures(specs) {
    const wanted = specs.map((one) => `figure-${one.key}`);
    for (const old of [...$("figures").children]) if (!wanted.includes(old.id)) old.remove();
    for (const { key, data, layout, config } of specs) {
      let place = $(`figure-${key}`);
      if (!place) {
        place = document.createElement("div");
        place.id = `figure-${key}`;
        $("figures").append(place);
      }
      layout.autosize = true;
      layout.uirevision = "watch"; // what was zoomed stays so
      Plotly.react(place, data, layout, { ...config, displayModeBar: false });
    }
  }

  function drawRuns(markup) {
    const folds = Object.fromEntries([...document.querySelectorAll("details[id]")].map((d) => [d.id, d.open]));
    $("runs").innerHTML = markup;
    for (const [id, open] of Object.entries(folds)) if ($(id)) $(id).open = open;
  }

  async function turn() {
    try {
      const answer = await fetch(`state?seen=${seen}`, { cache: "no-store" });
      if (!answer.ok) throw new Error(await answer.text());
      const state = await answer.json();
      $("table").innerHTML = state.table;
      if (state.figures) {
        drawFigures(state.figures);
        drawRuns(state.runs);
        seen = state.stamp;
      }
      $("link").className = "";
      $("link").textContent = `read at ${new Date().toLocaleTimeString()}, and every ${EVERY / 1000} s`;
    } catch (error) {
      $("link").className = "lost";
      $("link").textContent = error instanceof TypeError ? "r1lab watch has ended; what stands here is the last that it read" : error.message;
    }
    setTimeout(turn, EVERY);
  }
  turn();
})();
