// A line of input on a terminal: editing, what was typed before, pasted and joined lines.
// Owns the lines that were typed. Must not know what they are for.
// Threads: confined to one thread.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace penstock {

/// The text under edit and where the cursor is; pure, so that keys can be tested without a terminal.
class EditedLine {
 public:
  const std::string& text() const { return text_; }
  size_t cursor() const { return cursor_; }  // in bytes, at the start of a character
  void Set(std::string text);
  void Insert(const std::string& text);
  void EraseBefore();
  void EraseAt();
  void EraseWord();
  void EraseToStart();
  void EraseToEnd();
  void Left();
  void Right();
  void Home() { cursor_ = 0; }
  void End() { cursor_ = text_.size(); }
  /// The columns of it that fit, and where in them the cursor is. A line break shows as a mark.
  std::string Visible(size_t columns, size_t& column) const;

 private:
  std::string text_;
  size_t cursor_ = 0;
};

class LineEditor {
 public:
  enum class Outcome { kLine, kInterrupted, kEnd };

  /// Reads a line of standard input, which is a terminal. kInterrupted: Ctrl-C; kEnd: Ctrl-D on an
  /// empty line, or the terminal is gone.
  Outcome Read(const std::string& prompt, std::string& line);
  void Remember(const std::string& line);

 private:
  enum class Step { kGoOn, kDone, kInterrupted, kEnd };
  Step TakeKey(char key, EditedLine& line);
  void TakeEscape(EditedLine& line);
  void Recall(int direction, EditedLine& line);
  std::optional<char> NextKey(int timeout_ms) const;  // none: time is up, or the terminal is gone

  std::vector<std::string> history_;
  size_t at_ = 0;        // of the history; its size: the new line
  std::string drafted_;  // the new line, while older ones are shown
  bool pasting_ = false;
};

}  // namespace penstock
