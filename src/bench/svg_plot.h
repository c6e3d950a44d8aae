// Lines in a coordinate system, as SVG that stands alone in a page. Colours are classes s0 to s7 of
// the page's style, of text class "more" is what says that something is left out.
// Owns nothing. Must not know what is drawn.
// Threads: value.
#pragma once

#include <string>
#include <vector>

namespace penstock {

struct PlotPoint {
  double x = 0, y = 0;
  std::string label;  // what a mark says where a pointer rests on it
};

/// Series of one name have one colour and one line of the legend.
struct PlotSeries {
  std::string name;
  std::vector<PlotPoint> points;
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

/// Points that an axis cannot show (not finite; 0 or less on a logarithmic one) are left out, and
/// so are series beyond the eighth name, which the legend counts. "" where no point is left.
std::string SvgOf(const Plot& plot);
/// For text in HTML and SVG.
std::string EscapeHtml(const std::string& text);

}  // namespace penstock
