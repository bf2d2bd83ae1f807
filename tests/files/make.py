"""Makes the files of this folder anew: real files as other programs write them, all with the text of `story`.

Run it by hand, in an environment of its own; the tests only read what is committed. It wants, from Debian:
libreoffice-writer, -calc and -impress, pandoc, abiword, gnumeric, wkhtmltopdf, groff, ghostscript, imagemagick,
webp, libtiff-tools, qpdf, python3-docutils, fonts-dejavu-core, libole-storage-lite-perl and
libspreadsheet-writeexcel-perl, default-jdk-headless, libapache-poi-java; from the Python index: python-docx,
python-pptx, openpyxl, xlsxwriter, xlwt, odfpy, odfdo, reportlab, fpdf2, ebooklib, pillow, img2pdf,
aspose-email-foss; and for node (NODE_PATH names their folder):
docx, pptxgenjs, exceljs, cfb, nodemailer, epub-gen-memory, sharp.

    python tests/files/make.py             # everything
    python tests/files/make.py docx odt    # these only

The name of a file is the program that wrote it. A run changes dates and identifiers inside many of them.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import make_images  # noqa: E402
import make_office  # noqa: E402
import make_pdf  # noqa: E402
import make_text  # noqa: E402
import story  # noqa: E402


def main() -> None:
    """Make the formats that the command line names, or all."""
    makers = make_text.MAKERS | make_office.MAKERS | make_pdf.MAKERS | make_images.MAKERS
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        (work / "handbook.html").write_text(story.html())
        (work / "story.json").write_text(
            json.dumps(
                {key: value for key, value in vars(story).items() if key.isupper()}
                | {"SAILINGS": story.sailings(), "HTML": story.html()}
            )
        )
        for format_ in sys.argv[1:] or makers:
            folder = HERE / format_
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            makers[format_](folder, work)


if __name__ == "__main__":
    main()
