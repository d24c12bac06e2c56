(async () => {
  "use strict";
  const root = document.documentElement;
  const hasWebGL = () => {
    const canvas = document.createElement("canvas");
    return Boolean(canvas.getContext("webgl2") || canvas.getContext("webgl"));
  };

  // plotly.js is in the page compressed; where a browser cannot unpack it the drawn figures remain
  const load = async () => {
    const bytes = Uint8Array.from(atob(document.getElementById("plotly").textContent), c => c.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    const script = document.createElement("script");
    script.textContent = await new Response(stream).text();
    document.head.append(script);
    return window.Plotly;
  };

  const themed = layout => {
    const style = getComputedStyle(root);
    const [fg, line, muted] = ["--fg", "--line", "--muted"].map(name => style.getPropertyValue(name).trim());
    const axis = { color: fg, gridcolor: line, zerolinecolor: line, linecolor: line };
    const result = {
      ...layout, autosize: true, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { color: fg, size: 12 }, modebar: { bgcolor: "rgba(0,0,0,0)", color: muted, activecolor: fg },
    };
    if (layout.scene) {
      result.margin = { l: 0, r: 0, t: 0, b: 0 };
      result.scene = { ...layout.scene };
      for (const name of ["xaxis", "yaxis", "zaxis"]) result.scene[name] = { ...layout.scene[name], ...axis };
    } else {
      result.margin = { l: 60, r: 15, t: 30, b: 50 };
      for (const name of ["xaxis", "yaxis"]) result[name] = { ...layout[name], ...axis };
    }
    return result;
  };

  // named one by one: none that sends anything
  const buttons = {
    surfaces: ["toImage", "zoom3d", "pan3d", "orbitRotation", "tableRotation", "resetCameraDefault3d"],
    spectra: ["toImage", "zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "autoScale2d"],
  };
  const draw = async (plotly, plot, figures) => {
    const [select, canvas, caption] = ["select", ".canvas", ".caption"].map(name => plot.querySelector(name));
    const show = () => {
      const figure = figures[select.selectedIndex];
      caption.textContent = figure.caption;
      const traces = figure.data.map(trace => trace.type !== "surface" ? trace : {
        ...trace,
        colorbar: { ...trace.colorbar, x: 0.98 },
        contours: { z: { show: true, usecolormap: true, highlightcolor: "#fff", project: { z: true } } },
      });
      const layout = themed(figure.layout);
      const narrow = canvas.clientWidth < 600;
      if (layout.scene && narrow) {  // step back: the labels need room
        const { x, y, z } = layout.scene.camera.eye;
        layout.scene.camera = { eye: { x: 1.3 * x, y: 1.3 * y, z: 1.3 * z } };
      }
      if (!layout.scene) {  // the legend's lines stand below the axis, one a curve where narrow
        const curves = traces.filter(trace => trace.name).length;
        layout.margin.b = 60 + 22 * (narrow ? curves : Math.ceil(curves / 3));
      }
      const options = { responsive: true, displaylogo: false, modeBarButtons: [buttons[plot.dataset.kind]] };
      return plotly.react(canvas, traces, layout, options);
    };
    plot.hidden = false;
    select.hidden = figures.length < 2;
    await show();
    select.addEventListener("change", show);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", show);
  };

  try {
    const data = JSON.parse(document.getElementById("plots").textContent);
    const plots = [...document.querySelectorAll(".plot")].filter(
      plot => data[plot.dataset.kind].length && (plot.dataset.kind !== "surfaces" || hasWebGL()));
    const plotly = plots.length ? await load() : null;
    for (const plot of plots) {
      try {
        await draw(plotly, plot, data[plot.dataset.kind]);
      } catch (error) {
        plot.hidden = true;
        root.dataset.error = String(error);
      }
    }
    root.dataset.plots = plots.filter(plot => !plot.hidden).map(plot => plot.dataset.kind).join(" ");
  } catch (error) {
    root.dataset.error = String(error);
  }
})();
