// How JupyterLab draws a figure of r1lab: interactive at first sight, as wide as its cell, in the
// colours of the theme, and drawn again whenever the kernel sends it anew. Plotly's own renderer
// shows a saved PNG until the mouse comes, refuses a second drawing and writes PNGs into the
// notebook. This one borrows its plotly.js. Plain JavaScript: JupyterLab loads it without a build.
(() => {
  const MARK = "application/vnd.r1lab.figure+json"; // {width}: the most that the figure wants
  const PLOTLY = "application/vnd.plotly.v1+json";
  const LOST = "Error displaying widget: model not found";
  const NO_KERNEL = "The controls of this cell need its kernel: run the cell to move them.";
  const LETTER = 7.5; // px of a letter below or beside an axis, as in r1lab/show/style.py
  const DARK = {
    "#000000": "#f2f2f2",
    "#222222": "#d8d8d8",
    "#555555": "#b0b0b0",
    "#e6e6e6": "#3a3a3a",
    '"white"': '"rgba(0, 0, 0, 0)"',
    "rgba(255, 255, 255, 0.75)": "rgba(0, 0, 0, 0.55)",
  };

  function wrap(text, width, size) {
    const lines = [""];
    for (const word of text.replaceAll("<br>", " ").split(" ")) {
      const line = lines.at(-1);
      if (line && (line.length + 1 + word.length) * size > width) lines.push(word);
      else lines[lines.length - 1] = line ? `${line} ${word}` : word;
    }
    return lines.join("<br>");
  }

  const count = (text) => (text || "").split("<br>").length;

  // The px that a legend takes in height. plotly lays its names in columns as wide as the longest,
  // or, where they are in groups, one after another.
  function legendHeight(data, layout, space) {
    const shown = data.filter((trace) => trace.name && trace.showlegend !== false);
    if (layout.showlegend === false || data.length < 2 || !shown.length) return 0;
    const ink = document.createElement("canvas").getContext("2d");
    ink.font = `13px ${layout.template?.layout?.font?.family || "sans-serif"}`;
    const widths = shown.map((trace) => 45 + ink.measureText(trace.name).width);
    const grouped = shown.some((trace) => trace.legendgroup);
    const all = widths.reduce((sum, one) => sum + one);
    const column = grouped || all <= space ? 0 : Math.max(...widths);
    let rows = 1, used = 0;
    for (const width of widths) {
      const one = column || width;
      if (used && used + one > space) [rows, used] = [rows + 1, 0];
      used += one;
    }
    return rows * (grouped ? 30 : 20);
  }

  // Fewer pixels than the figure was made for: titles and legend take more lines, and panels that
  // would be slits stand one under another.
  function narrow(data, layout, natural, width) {
    const margin = layout.margin;
    cells(data, margin, width);
    const height = layout.height - margin.t - margin.b;
    const room = width - margin.l - margin.r;
    const legend = (all) => legendHeight(data, layout, all - margin.l - margin.r);
    margin.b += Math.max(0, legend(width) - legend(Math.min(natural, 760)));
    const title = layout.title;
    const before = count(title.text);
    const across = title.xref === "container" ? width - margin.r : room;
    title.text = wrap(title.text, across - 110, 8.6);
    const more = Math.max(0, count(title.text) - before);
    margin.t += 22 * more;
    if (title.subtitle?.text) {
      const lines = count(title.subtitle.text);
      title.subtitle.text = wrap(title.subtitle.text, across, 6.9);
      margin.t += 21 * Math.max(0, count(title.subtitle.text) - lines) + (more ? 8 : 0);
    }
    const all = Object.keys(layout).filter((key) => /^xaxis\d*$/.test(key));
    const axes = all.filter((key) => layout[key].domain); // of panels
    const columns = new Set(axes.map((key) => layout[key].domain[0])).size;
    const stacked = columns > 1 && room / columns < 190;
    const wrapped = (axis, space) => {
      const { title } = axis;
      if (!title?.text) return 0;
      const before = count(title.text);
      title.text = wrap(title.text, space, 7.4);
      return 18 * Math.max(0, count(title.text) - before); // px that the new lines take
    };
    const part = ({ domain }) => (stacked || !domain ? 1 : domain[1] - domain[0]);
    const below = (key) => {
      const space = room * part(layout[key]);
      return wrapped(layout[key], space) + ticks(data, layout[key], key.replace("axis", ""), space);
    };
    const under = Math.max(0, ...all.map(below));
    margin.b += under;
    layout.height = height + margin.t + margin.b;
    if (stacked) {
      const each = Math.max(170, Math.min(height, 230));
      margin.l += Math.max(...axes.map((key) => wrapped(layout[key.replace("x", "y")], each)));
      const titles = (layout.annotations || []).filter((note) => /domain$/.test(note.yref));
      const above = 17 * Math.max(0, ...titles.map((note) => count(note.text) - 1));
      // of rows of panels the ticks are turned
      const gap = (axes.length > columns ? 115 : 75) + under + above;
      const total = (each + gap) * axes.length - gap;
      layout.height = total + margin.t + margin.b;
      axes.forEach((key, row) => {
        const top = 1 - (row * (each + gap)) / total;
        layout[key].domain = [0, 1];
        layout[key.replace("x", "y")].domain = [Math.max(0, top - each / total), top];
      });
    }
    title.y = 1 - (count(title.text) > 1 ? 25 : 13) / layout.height; // as r1lab/show/style.py
  }

  // Break the names below the bars of an x axis where they would reach into each other, leave some
  // out where they are numbers, and return the px that the new lines take.
  function ticks(data, axis, id, space) {
    if (axis.type !== "category" || axis.showticklabels === false) return 0;
    const mine = data.filter((t) => (t.xaxis || "x") === id && Array.isArray(t.x));
    const names = [...new Set(mine.flatMap((t) => t.x))].map(String);
    if (!names.length || mine[0].orientation === "h") return 0;
    const slot = space / names.length;
    const broken = names.map((name) =>
      name.split("<br>").map((line) => wrap(line, slot, LETTER)).join("<br>"),
    );
    const widest = LETTER * Math.max(...names.map((name) => name.length));
    const step = names.every((name) => isFinite(name)) ? Math.ceil((widest + 4) / slot) : 1;
    const shown = (all) => all.filter((_, i) => i % step === 0);
    Object.assign(axis, { tickmode: "array", tickvals: shown(names), ticktext: shown(broken) });
    const lines = (all) => Math.max(...all.map(count));
    return 17 * (lines(broken) - lines(names));
  }

  // Names at the left take at most a third of the width; numbers stand in cells with room for them.
  function cells(data, margin, width) {
    for (const trace of data.filter((t) => t.type === "heatmap")) {
      const rows = trace.y.map((name) => wrap(name, width / 3, LETTER));
      const widest = Math.max(...rows.flatMap((row) => row.split("<br>")).map((line) => line.length));
      trace.y = rows;
      margin.l = Math.min(margin.l, 50 + 8 * widest);
      const cell = (width - margin.l - margin.r) / trace.x.length;
      if (cell < 4 * LETTER) delete trace.texttemplate;
    }
  }

  function fitted(spec, natural, width, dark) {
    let text = JSON.stringify(spec);
    if (dark) for (const [light, ink] of Object.entries(DARK)) text = text.replaceAll(light, ink);
    const { data, layout, config } = JSON.parse(text);
    if (width < natural && layout.margin && layout.title) narrow(data, layout, natural, width);
    Object.assign(layout, { width: Math.min(natural, width), autosize: false });
    layout.uirevision ??= "r1lab"; // what was zoomed or hidden stays so when data come
    return [data, layout, config];
  }

  async function extension() {
    const load = await window._JUPYTERLAB["jupyterlab-plotly"].get("./mimeExtension");
    const { RenderedPlotly } = load();
    async function plotly() {
      if (!RenderedPlotly.Plotly) {
        const empty = { data: { [PLOTLY]: { data: [], layout: {} } }, setData() {} };
        await new RenderedPlotly({ mimeType: PLOTLY }).createGraph(empty);
      }
      return RenderedPlotly.Plotly;
    }

    class Figure extends RenderedPlotly {
      constructor(options) {
        super(options);
        this.plot = document.createElement("div");
        this.node.replaceChildren(this.plot);
        this.node.style.cssText = "width: 100%; overflow: hidden";
        this.drawn = Promise.resolve();
        this.resized = new ResizeObserver(() => this.draw());
        this.seen = new IntersectionObserver((entries) => {
          this.near = entries.at(-1).isIntersecting;
          this.draw();
        });
        this.themed = new MutationObserver(() => this.draw());
      }
      renderModel(model) {
        this.spec = model.data[PLOTLY];
        this.plot.setAttribute("role", "figure");
        this.plot.setAttribute("aria-label", model.data["text/plain"] || "figure");
        if (!this.natural) {
          this.node.style.minHeight = `${this.spec.layout.height}px`; // the page does not jump
          this.resized.observe(this.node);
          this.seen.observe(this.node);
          const theme = { attributes: true, attributeFilter: ["data-jp-theme-light"] };
          this.themed.observe(document.body, theme);
        }
        this.natural = model.data[MARK].width;
        this.look = ""; // to be drawn anew
        return this.draw();
      }
      draw() {
        this.drawn = this.drawn.then(() => this.redraw()).catch(console.error);
        return this.drawn;
      }
      async redraw() {
        const Plotly = await plotly();
        const width = this.node.clientWidth;
        const dark = document.body.dataset.jpThemeLight === "false";
        const look = `${width} ${dark}`;
        // Out of sight nothing has a size: plotly would lay title and subtitle over each other.
        const hidden = this.node.checkVisibility?.({ contentVisibilityAuto: true }) === false;
        if (hidden && this.near && !this.isDisposed) setTimeout(() => this.draw(), 100);
        if (this.isDisposed || hidden || !width || look === this.look) return;
        this.look = look;
        const [data, layout, config] = fitted(this.spec, this.natural, width, dark);
        this.node.style.minHeight = `${layout.height}px`;
        await Plotly.react(this.plot, data, layout, config);
      }
      onUpdateRequest() {}
      onResize() {}
      onAfterShow() {}
      dispose() {
        this.resized.disconnect();
        this.seen.disconnect();
        this.themed.disconnect();
        RenderedPlotly.Plotly?.purge(this.plot);
        super.dispose();
      }
    }

    // A saved control of a kernel that is gone: a sentence, not an error.
    new MutationObserver((changes) => {
      for (const node of changes.flatMap((change) => [...change.addedNodes]))
        if (node.nodeType === Node.TEXT_NODE && node.data === LOST) node.data = NO_KERNEL;
    }).observe(document.body, { childList: true, subtree: true });

    const createRenderer = (options) => new Figure(options);
    const rendererFactory = { safe: true, mimeTypes: [MARK], createRenderer };
    return [{ id: "r1lab:figures", rank: 0, dataType: "json", rendererFactory }];
  }

  window._JUPYTERLAB ??= {};
  window._JUPYTERLAB.r1lab = {
    init() {},
    async get() {
      const plugins = await extension();
      return () => ({ __esModule: true, default: plugins });
    },
  };
})();
