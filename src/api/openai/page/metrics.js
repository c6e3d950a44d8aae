// Prometheus text -> series; rates and quantiles between two pages.

// [{name, labels, value}]
export function parse(text) {
  const out = [];
  for (const line of text.split("\n")) {
    if (!line || line[0] === "#") continue;
    const brace = line.indexOf("{");
    const space = line.lastIndexOf(" ");
    const labels = {};
    let name = line.slice(0, space);
    if (brace >= 0) {
      name = line.slice(0, brace);
      const pattern = /([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"/g;
      for (const found of line.slice(brace, space).matchAll(pattern))
        labels[found[1]] = found[2].replace(/\\(.)/g, (_, c) => (c === "n" ? "\n" : c));
    }
    const word = line.slice(space + 1);
    const value = word === "+Inf" ? Infinity : word === "-Inf" ? -Infinity : Number(word);
    out.push({ name, labels, value });
  }
  return out;
}

export class Page {
  constructor(text, when) {
    this.when = when;
    this.byName = Map.groupBy ? Map.groupBy(parse(text), (s) => s.name) : new Map();
    if (!Map.groupBy) for (const s of parse(text)) this.byName.set(s.name, [...(this.byName.get(s.name) ?? []), s]);
  }
  series(name, model = "", labels = {}) {
    return (this.byName.get(name) ?? []).filter((s) =>
      (!model || s.labels.model_name === model) &&
      Object.entries(labels).every(([k, v]) => s.labels[k] === v));
  }
  sum(name, model, labels) {
    return this.series(name, model, labels).reduce((sum, s) => sum + s.value, 0);
  }
  max(name, model) {
    return this.series(name, model).reduce((most, s) => Math.max(most, s.value), 0);
  }
  label(name, label) {
    return this.series(name)[0]?.labels[label] ?? "";
  }
  // le -> how many, of all series together
  buckets(name, model) {
    const out = new Map();
    for (const s of this.series(`${name}_bucket`, model)) {
      const le = s.labels.le === "+Inf" ? Infinity : Number(s.labels.le);
      out.set(le, (out.get(le) ?? 0) + s.value);
    }
    return out;
  }
}

// A counter that fell belongs to a server that has started again.
export function rate(before, after, name, model, labels) {
  if (!before || after.when <= before.when) return NaN;
  const grown = after.sum(name, model, labels) - before.sum(name, model, labels);
  return grown < 0 ? NaN : grown / ((after.when - before.when) / 1000);
}

// The quantile of what was observed between two pages, as histogram_quantile() has it; NaN: nothing was.
export function quantile(before, after, name, q, model) {
  if (!before) return NaN;
  const old = before.buckets(name, model);
  const rows = [...after.buckets(name, model)].map(([le, n]) => [le, n - (old.get(le) ?? 0)]).sort((a, b) => a[0] - b[0]);
  const total = rows.at(-1)?.[1] ?? 0;
  if (!(total > 0)) return NaN;
  const rank = q * total;
  let low = 0;
  let below = 0;
  for (const [le, count] of rows) {
    if (count >= rank) {
      if (le === Infinity) return low;
      return low + (le - low) * ((rank - below) / Math.max(count - below, 1e-9));
    }
    low = le;
    below = count;
  }
  return low;
}
