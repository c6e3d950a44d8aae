#include "bench/svg_plot.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"

namespace penstock {
namespace {

// About the size at which a browser shows it, so that its text is about as large as the page's.
constexpr double kWidth = 420, kHeight = 276;
constexpr double kLeft = 68, kRight = 18, kTop = 10, kBottom = 48;
constexpr size_t kColours = 8;
constexpr int kTicks = 5;

/// Maps values to places along one side of the picture.
class PlotScale {
 public:
  PlotScale(const PlotAxis& axis, double low, double high, double begin, double end)
      : log_(axis.logarithmic), begin_(begin), end_(end) {
    if (log_) {
      low_ = low;
      high_ = high > low ? high : low * 10;
    } else {
      low_ = std::min(0.0, low);
      high_ = high > low_ ? high : low_ + 1;
    }
  }
  double At(double value) const {
    const double share =
        log_ ? std::log(value / low_) / std::log(high_ / low_) : (value - low_) / (high_ - low_);
    return begin_ + share * (end_ - begin_);
  }
  std::vector<double> Ticks() const {
    if (log_) {
      const bool wide = high_ / low_ >= 30;
      if (std::vector<double> out = LogTicks({1.0}); wide && out.size() >= 2) return out;
      if (std::vector<double> out = LogTicks({1.0, 2.0, 5.0}); out.size() >= 2) return out;
    }  // else all lies within less than a decade
    return EvenTicks();
  }

 private:
  /// These of each decade.
  std::vector<double> LogTicks(const std::vector<double>& steps) const {
    std::vector<double> out;
    for (double decade = std::pow(10, std::floor(std::log10(low_))); decade <= high_;
         decade *= 10) {
      for (const double step : steps) {
        const double tick = decade * step;
        if (tick >= low_ * 0.999 && tick <= high_ * 1.001) out.push_back(tick);
      }
    }
    return out;
  }
  std::vector<double> EvenTicks() const {
    std::vector<double> out;
    const double rough = (high_ - low_) / kTicks;
    const double decade = std::pow(10, std::floor(std::log10(rough)));
    double step = decade * 10;
    for (const double nice : {1.0, 2.0, 5.0}) {
      if (nice * decade >= rough) {
        step = nice * decade;
        break;
      }
    }
    const auto first = static_cast<int64_t>(std::ceil(low_ / step * 0.9999));
    for (int64_t i = first; static_cast<double>(i) * step <= high_ * 1.0001; ++i)
      out.push_back(static_cast<double>(i) * step);
    return out;
  }

  bool log_;
  double low_, high_, begin_, end_;
};

bool Shown(const PlotAxis& axis, double value) {
  return std::isfinite(value) && (!axis.logarithmic || value > 0);
}

std::string TickLabel(double value) {
  if (value >= 1e6) return absl::StrFormat("%gM", value * 1e-6);
  return value >= 1e4 ? absl::StrFormat("%gk", value * 1e-3) : absl::StrFormat("%g", value);
}

void DrawAxes(const Plot& plot, const PlotScale& x, const PlotScale& y, std::string& out) {
  const double right = kWidth - kRight, bottom = kHeight - kBottom;
  const double below = bottom + 20;  // of the lowest label beside the axis as well
  for (const double tick : x.Ticks()) {
    absl::StrAppendFormat(&out,
                          "<line class=\"grid\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>"
                          "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">%s</text>\n",
                          x.At(tick), x.At(tick), kTop, bottom, x.At(tick), below, TickLabel(tick));
  }
  for (const double tick : y.Ticks()) {
    absl::StrAppendFormat(&out,
                          "<line class=\"grid\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>"
                          "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\">%s</text>\n",
                          kLeft, right, y.At(tick), y.At(tick), kLeft - 6, y.At(tick) + 4,
                          TickLabel(tick));
  }
  absl::StrAppendFormat(&out, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">%s</text>\n",
                        (kLeft + right) / 2, kHeight - 8, EscapeHtml(plot.x.label));
  absl::StrAppendFormat(&out,
                        "<text transform=\"translate(12 %.1f) rotate(-90)\" "
                        "text-anchor=\"middle\">%s</text>\n",
                        (kTop + bottom) / 2, EscapeHtml(plot.y.label));
}

}  // namespace

std::string EscapeHtml(const std::string& text) {
  return absl::StrReplaceAll(
      text, {{"&", "&amp;"}, {"<", "&lt;"}, {">", "&gt;"}, {"\"", "&quot;"}, {"'", "&#39;"}});
}

std::string SvgOf(const Plot& plot) {
  std::vector<PlotSeries> series;
  std::vector<std::string> names, left_out;
  for (const PlotSeries& one : plot.series) {
    const auto known = [&](const std::vector<std::string>& of) {
      return std::find(of.begin(), of.end(), one.name) != of.end();
    };
    if (!known(names) && names.size() == kColours) {
      if (!known(left_out)) left_out.push_back(one.name);
      continue;
    }
    if (!known(names)) names.push_back(one.name);
    series.push_back(one);
  }
  double low[2] = {INFINITY, INFINITY}, high[2] = {-INFINITY, -INFINITY};
  for (PlotSeries& one : series) {
    const auto hidden = [&](const PlotPoint& p) {
      return !Shown(plot.x, p.x) || !Shown(plot.y, p.y);
    };
    one.points.erase(std::remove_if(one.points.begin(), one.points.end(), hidden),
                     one.points.end());
    for (const PlotPoint& p : one.points) {
      low[0] = std::min(low[0], p.x), high[0] = std::max(high[0], p.x);
      low[1] = std::min(low[1], p.y), high[1] = std::max(high[1], p.y);
    }
  }
  if (low[0] > high[0]) return "";
  const PlotScale x(plot.x, low[0], high[0], kLeft, kWidth - kRight);
  const PlotScale y(plot.y, low[1], high[1], kHeight - kBottom, kTop);
  std::string out = absl::StrFormat(
      "<figure><figcaption>%s</figcaption>\n<svg viewBox=\"0 0 %g %g\" role=\"img\" "
      "aria-label=\"%s\">\n",
      EscapeHtml(plot.title), kWidth, kHeight, EscapeHtml(plot.title));
  DrawAxes(plot, x, y, out);
  for (const PlotSeries& one : series) {
    const auto colour = std::find(names.begin(), names.end(), one.name) - names.begin();
    std::string path, marks;
    for (const PlotPoint& p : one.points) {
      absl::StrAppendFormat(&path, "%s%.1f %.1f", path.empty() ? "M" : "L", x.At(p.x), y.At(p.y));
      absl::StrAppendFormat(
          &marks,
          "<circle class=\"s%d\" cx=\"%.1f\" cy=\"%.1f\" r=\"3.5\"><title>%s</title></circle>\n",
          colour, x.At(p.x), y.At(p.y), EscapeHtml(p.label));
    }
    if (one.line && one.points.size() > 1)
      absl::StrAppendFormat(&out, "<path class=\"s%d\" d=\"%s\"/>\n", colour, path);
    if (one.marks) out += marks;
  }
  std::string legend;
  for (size_t i = 0; i < names.size(); ++i)
    absl::StrAppendFormat(&legend, "<li class=\"s%d\">%s</li>", i, EscapeHtml(names[i]));
  if (!left_out.empty())
    absl::StrAppendFormat(&legend, "<li class=\"more\">and %d more, not drawn</li>",
                          left_out.size());
  absl::StrAppend(&out, "</svg>\n<ul>", legend, "</ul></figure>\n");
  return out;
}

}  // namespace penstock
