#include "server/line_editor.h"

#include <gtest/gtest.h>

namespace penstock {
namespace {

TEST(EditedLine, CharactersOfSeveralBytesAreOne) {
  EditedLine line;
  line.Insert("a\u00e4\u4e16b");
  line.Left();
  line.EraseBefore();
  EXPECT_EQ(line.text(), "a\u00e4b");
  line.Left();
  line.EraseAt();
  EXPECT_EQ(line.text(), "ab");
  EXPECT_EQ(line.cursor(), 1);
  line.Home();
  line.Left();
  EXPECT_EQ(line.cursor(), 0);
  line.EraseBefore();
  EXPECT_EQ(line.text(), "ab");
  line.End();
  line.Right();
  line.EraseAt();
  EXPECT_EQ(line.text(), "ab");
}

TEST(EditedLine, ErasesWordsAndRests) {
  EditedLine line;
  line.Set("one two  three");
  line.EraseWord();
  EXPECT_EQ(line.text(), "one two  ");
  line.EraseWord();
  EXPECT_EQ(line.text(), "one ");
  line.Set("one two");
  line.Left();
  line.Left();
  line.Left();
  line.EraseToEnd();
  EXPECT_EQ(line.text(), "one ");
  line.Left();
  line.EraseToStart();
  EXPECT_EQ(line.text(), " ");
}

TEST(EditedLine, ShowsWhereTheCursorIsAndMarksLineBreaks) {
  EditedLine line;
  size_t column = 0;
  line.Set("0123456789");
  EXPECT_EQ(line.Visible(20, column), "0123456789");
  EXPECT_EQ(column, 10);
  EXPECT_EQ(line.Visible(5, column), "6789");
  EXPECT_EQ(column, 4);
  line.Home();
  EXPECT_EQ(line.Visible(5, column), "01234");
  EXPECT_EQ(column, 0);
  line.Set("a\nb");
  EXPECT_EQ(line.Visible(5, column),
            "a\u21b5"
            "b");
  EXPECT_EQ(column, 3);
}

}  // namespace
}  // namespace penstock
