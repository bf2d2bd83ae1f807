// The parts of make.py that Java does: java -cp /usr/share/java/poi.jar:... Make.java PART STORY.tsv TARGET
// STORY.tsv has a line per slide (title, lines..., and last the notes), or per row.

import java.io.FileOutputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import org.apache.poi.hslf.usermodel.HSLFNotes;
import org.apache.poi.hslf.usermodel.HSLFSlide;
import org.apache.poi.hslf.usermodel.HSLFSlideShow;
import org.apache.poi.hslf.usermodel.HSLFTextBox;
import org.apache.poi.hssf.usermodel.HSSFRow;
import org.apache.poi.hssf.usermodel.HSSFSheet;
import org.apache.poi.hssf.usermodel.HSSFWorkbook;

public class Make {
    public static void main(String[] args) throws Exception {
        var rows = Files.readAllLines(Path.of(args[1])).stream().map(line -> line.split("\t")).toList();
        try (var out = new FileOutputStream(args[2])) {
            if (args[0].equals("ppt")) {
                var show = new HSLFSlideShow();
                for (String[] row : rows) {
                    HSLFSlide slide = show.createSlide();
                    slide.addTitle().setText(row[0]);
                    for (int i = 1; i < row.length; i++) {
                        HSLFTextBox box = slide.createTextBox();
                        box.setAnchor(new java.awt.Rectangle(40, 60 + 60 * i, 600, 50));
                        box.setText(row[i]);
                    }
                }
                show.write(out);
            } else {
                var book = new HSSFWorkbook();
                HSSFSheet sheet = book.createSheet("Fuel – Öl");
                for (int r = 0; r < rows.size(); r++) {
                    HSSFRow line = sheet.createRow(r + 4);
                    for (int c = 0; c < rows.get(r).length; c++) {
                        String value = rows.get(r)[c];
                        if (value.matches("\\d+")) line.createCell(c + 3).setCellValue(Double.parseDouble(value));
                        else line.createCell(c + 3).setCellValue(value);
                    }
                }
                book.write(out);
            }
        }
    }
}
