// Lines in a coordinate system, as SVG that stands alone in a page. Colours are classes s0 to s7 of
// the page's style.
// Owns nothing. Must not know what is drawn.
// Threads: value.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace penstock {

struct PlotSeries {
  std::string name;
  std::vector<std::pair<double, double>> points;
  bool marks = false;  // a circle at each point
  bool line = true;    // and a line through them
};

struct PlotAxis {
  std::string label;
  bool logarithmic = false;
};

struct Plot {
  std::string title;
  PlotAxis x, y;
  std::vector<PlotSeries> series;
};

/// Points that an axis cannot show (not finite; 0 or less on a logarithmic one) are left out.
/// "" where no point is left.
std::string SvgOf(const Plot& plot);
/// For text in HTML and SVG.
std::string EscapeHtml(const std::string& text);

}  // namespace penstock
