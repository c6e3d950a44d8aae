#include "server/line_editor.h"

#include <poll.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>

#include "absl/strings/str_cat.h"

namespace penstock {
namespace {

constexpr size_t kMostLines = 1000;
constexpr int kEscapeTimeout = 50;  // milliseconds in which the rest of a key's sequence comes

bool IsContinuation(char c) { return (static_cast<unsigned char>(c) & 0xC0) == 0x80; }
constexpr char Control(char letter) { return static_cast<char>(letter & 0x1F); }

/// Keys come one by one, unechoed, and Ctrl-C is a key.
class RawTerminal {
 public:
  RawTerminal() {
    tcgetattr(STDIN_FILENO, &before_);
    termios raw = before_;
    raw.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO | ISIG | IEXTEN);
    raw.c_iflag &= ~static_cast<tcflag_t>(IXON | ICRNL);
    tcsetattr(STDIN_FILENO, TCSADRAIN, &raw);
    std::fputs("\x1b[?2004h", stdout);  // pastes are marked
    std::fflush(stdout);
  }
  ~RawTerminal() {
    std::fputs("\x1b[?2004l", stdout);
    std::fflush(stdout);
    tcsetattr(STDIN_FILENO, TCSADRAIN, &before_);
  }
  RawTerminal(const RawTerminal&) = delete;
  RawTerminal& operator=(const RawTerminal&) = delete;

 private:
  termios before_{};
};

size_t TerminalColumns() {
  winsize size{};
  if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return 80;
  return size.ws_col;
}

}  // namespace

void EditedLine::Set(std::string text) {
  text_ = std::move(text);
  cursor_ = text_.size();
}

void EditedLine::Insert(const std::string& text) {
  text_.insert(cursor_, text);
  cursor_ += text.size();
}

void EditedLine::Left() {
  while (cursor_ > 0 && IsContinuation(text_[--cursor_])) {
  }
}

void EditedLine::Right() {
  if (cursor_ == text_.size()) return;
  while (++cursor_ < text_.size() && IsContinuation(text_[cursor_])) {
  }
}

void EditedLine::EraseBefore() {
  const size_t end = cursor_;
  Left();
  text_.erase(cursor_, end - cursor_);
}

void EditedLine::EraseAt() {
  const size_t begin = cursor_;
  Right();
  text_.erase(begin, cursor_ - begin);
  cursor_ = begin;
}

void EditedLine::EraseWord() {
  const size_t end = cursor_;
  while (cursor_ > 0 && text_[cursor_ - 1] == ' ') --cursor_;
  while (cursor_ > 0 && text_[cursor_ - 1] != ' ') --cursor_;
  text_.erase(cursor_, end - cursor_);
}

void EditedLine::EraseToStart() {
  text_.erase(0, cursor_);
  cursor_ = 0;
}

void EditedLine::EraseToEnd() { text_.erase(cursor_); }

std::string EditedLine::Visible(size_t columns, size_t& column) const {
  std::vector<std::string> characters;
  column = 0;
  for (size_t at = 0; at < text_.size();) {
    size_t end = at + 1;
    while (end < text_.size() && IsContinuation(text_[end])) ++end;
    if (at < cursor_) ++column;
    const bool prints = static_cast<unsigned char>(text_[at]) >= 0x20;
    characters.push_back(prints ? text_.substr(at, end - at) : "\u21b5");
    at = end;
  }
  const size_t first = column < columns ? 0 : column - columns + 1;
  const size_t last = std::min(characters.size(), first + columns);
  column -= first;
  std::string out;
  for (size_t i = first; i < last; ++i) out += characters[i];
  return out;
}

void LineEditor::Remember(const std::string& line) {
  if (line.empty() || (!history_.empty() && history_.back() == line)) return;
  history_.push_back(line);
  if (history_.size() > kMostLines) history_.erase(history_.begin());
}

std::optional<char> LineEditor::NextKey(int timeout_ms) const {
  pollfd ready{STDIN_FILENO, POLLIN, 0};
  int count = poll(&ready, 1, timeout_ms);
  while (count < 0 && errno == EINTR) count = poll(&ready, 1, timeout_ms);
  char key = 0;
  if (count <= 0 || read(STDIN_FILENO, &key, 1) != 1) return {};
  return key;
}

void LineEditor::Recall(int direction, EditedLine& line) {
  if (direction < 0 ? at_ == 0 : at_ == history_.size()) return;
  if (at_ == history_.size()) drafted_ = line.text();
  at_ += direction;
  line.Set(at_ == history_.size() ? drafted_ : history_[at_]);
}

/// What follows an escape: ESC [ or ESC O, figures, a letter or ~.
void LineEditor::TakeEscape(EditedLine& line) {
  std::optional<char> key = NextKey(kEscapeTimeout);
  if (!key || (*key != '[' && *key != 'O')) return;
  std::string figures;
  while ((key = NextKey(kEscapeTimeout)) && (*key == ';' || (*key >= '0' && *key <= '9')))
    figures += *key;
  if (!key) return;
  switch (*key) {
    case 'A':
      return Recall(-1, line);
    case 'B':
      return Recall(1, line);
    case 'C':
      return line.Right();
    case 'D':
      return line.Left();
    case 'H':
      return line.Home();
    case 'F':
      return line.End();
    case '~':
      if (figures == "200") pasting_ = true;
      if (figures == "201") pasting_ = false;
      if (figures == "3") line.EraseAt();
      if (figures == "1" || figures == "7") line.Home();
      if (figures == "4" || figures == "8") line.End();
      return;
    default:
      return;
  }
}

LineEditor::Step LineEditor::TakeKey(char key, EditedLine& line) {
  switch (key) {
    case '\r':
    case '\n':
      if (!pasting_) return Step::kDone;
      line.Insert("\n");
      return Step::kGoOn;
    case Control('C'):
      return Step::kInterrupted;
    case Control('D'):
      if (line.text().empty()) return Step::kEnd;
      line.EraseAt();
      return Step::kGoOn;
    case 0x7f:
    case Control('H'):
      line.EraseBefore();
      return Step::kGoOn;
    case Control('A'):
      line.Home();
      return Step::kGoOn;
    case Control('E'):
      line.End();
      return Step::kGoOn;
    case Control('B'):
      line.Left();
      return Step::kGoOn;
    case Control('F'):
      line.Right();
      return Step::kGoOn;
    case Control('K'):
      line.EraseToEnd();
      return Step::kGoOn;
    case Control('U'):
      line.EraseToStart();
      return Step::kGoOn;
    case Control('W'):
      line.EraseWord();
      return Step::kGoOn;
    case Control('P'):
      Recall(-1, line);
      return Step::kGoOn;
    case Control('N'):
      Recall(1, line);
      return Step::kGoOn;
    case '\x1b':
      TakeEscape(line);
      return Step::kGoOn;
    default:
      if (key == '\t' || static_cast<unsigned char>(key) >= 0x20) line.Insert(std::string(1, key));
      return Step::kGoOn;
  }
}

LineEditor::Outcome LineEditor::Read(const std::string& prompt, std::string& line) {
  const RawTerminal raw;
  EditedLine edited;
  at_ = history_.size();
  pasting_ = false;
  const auto draw = [&] {
    size_t column = 0;
    const size_t columns = TerminalColumns();
    const size_t room = columns > prompt.size() + 8 ? columns - prompt.size() - 1 : 8;
    const std::string text = edited.Visible(room, column);
    const std::string out =
        absl::StrCat("\r", prompt, text, "\x1b[K\r\x1b[", prompt.size() + column, "C");
    std::fwrite(out.data(), 1, out.size(), stdout);
    std::fflush(stdout);
  };
  Step step = Step::kGoOn;
  draw();
  while (step == Step::kGoOn) {
    const std::optional<char> key = NextKey(-1);
    step = key ? TakeKey(*key, edited) : Step::kEnd;
    // A paste, or a character of several bytes, is drawn once.
    pollfd more{STDIN_FILENO, POLLIN, 0};
    if (step != Step::kGoOn || poll(&more, 1, 0) == 0) draw();
  }
  std::fputs(step == Step::kInterrupted ? "^C\n" : "\n", stdout);
  std::fflush(stdout);
  line = edited.text();
  return step == Step::kDone ? Outcome::kLine
                             : (step == Step::kEnd ? Outcome::kEnd : Outcome::kInterrupted);
}

}  // namespace penstock
