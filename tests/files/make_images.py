"""Pictures of a notice."""

from __future__ import annotations

from pathlib import Path

import story
from PIL import Image, ImageDraw, ImageFont
from tools import libreoffice, node, run

_FONT = "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf"
_MAGICK = ("convert", "-background", "white", "-fill", "black", "-font", _FONT, "-pointsize", "32")


def notice(*, mode: str = "RGB", lines: tuple[str, ...] = story.NOTICE) -> Image.Image:
    """Draw lines of black text on white."""
    image = Image.new("RGB", (720, 70 + 50 * len(lines)), "white")
    draw, font = ImageDraw.Draw(image), ImageFont.truetype(_FONT, 32)
    for number, line in enumerate(lines):
        draw.text((40, 30 + 50 * number), line, fill="black", font=font)
    return image.convert(mode)


def _label() -> str:
    return "label:" + "\n".join(story.NOTICE)


def _sheet(work: Path) -> Path:
    """Return the notice as a page of LibreOffice."""
    path = work / "notice.html"
    path.write_text(
        "<html><body>" + "".join(f"<p style='font-size:26pt'>{line}</p>" for line in story.NOTICE) + "</body></html>"
    )
    odt = work / "notice.odt"
    libreoffice(path, "odt:writer8", odt, reads="HTML (StarWriter)")
    return odt


def _by_node(part: str, work: Path, target: Path) -> None:
    scratch = work / target.name
    notice().save(f"{scratch}.png")
    node(part, work, scratch)
    scratch.rename(target)


def make_png(folder: Path, work: Path) -> None:
    """One with transparency, one in few colours, one of a page."""
    clear = Image.new("RGBA", (720, 270), (0, 0, 0, 0))
    ink = notice().convert("L").point(lambda value: 255 - value)
    clear.paste((0, 0, 0, 255), (0, 0), ink)
    clear.save(folder / "pillow-transparent.png", optimize=True)
    run(*_MAGICK, "-bordercolor", "white", _label(), "-border", "40", "-colors", "8", folder / "imagemagick.png")
    libreoffice(_sheet(work), "png", folder / "libreoffice.png")


def make_jpg(folder: Path, work: Path) -> None:
    """One in grey, one in the colours of print, one that says that it lies on its side."""
    notice(mode="L").save(folder / "pillow.jpg", quality=60)
    run(*_MAGICK, "-bordercolor", "white", _label(), "-border", "40", "-colorspace", "CMYK", folder / "imagemagick.jpg")
    _by_node("jpg", work, folder / "sharp-sideways.jpeg")


def make_webp(folder: Path, work: Path) -> None:
    """Lossless, lossy, and by Google's own program."""
    notice().save(folder / "pillow.webp", lossless=True)
    _by_node("webp", work, folder / "sharp.webp")
    notice().save(work / "notice.png")
    run("cwebp", "-quiet", "-q", "50", work / "notice.png", "-o", folder / "cwebp.webp")


def make_tiff(folder: Path, work: Path) -> None:
    """Fax compression, several pages, and a bare one."""
    pages = [notice(mode="1"), notice(mode="1", lines=("SECOND PAGE", "The kiosk opens at nine."))]
    pages[0].save(folder / "pillow.tiff", save_all=True, append_images=pages[1:], compression="group4")
    run(
        *_MAGICK,
        "-bordercolor",
        "white",
        _label(),
        "-border",
        "40",
        "-depth",
        "8",
        "-compress",
        "LZW",
        folder / "imagemagick.tif",
    )
    for number, page in enumerate(pages):
        page.convert("L").save(work / f"{number}.tif")
    run("tiffcp", "-c", "zip", work / "0.tif", work / "1.tif", folder / "libtiff.tif")


def make_gif(folder: Path, work: Path) -> None:
    """Three palettes."""
    notice(mode="P").save(folder / "pillow.gif")
    run(*_MAGICK, "-bordercolor", "white", _label(), "-border", "40", "-interlace", "GIF", folder / "imagemagick.gif")
    _by_node("gif", work, folder / "sharp.gif")


def make_bmp(folder: Path, work: Path) -> None:
    """One bit, a palette with run lengths, and one by ghostscript."""
    notice(mode="1").save(folder / "pillow.bmp")
    run(
        *_MAGICK,
        "-bordercolor",
        "white",
        _label(),
        "-border",
        "40",
        "-monochrome",
        f"BMP3:{folder / 'imagemagick.bmp'}",
    )
    script = "/Helvetica findfont 16 scalefont setfont " + "".join(
        f"20 {110 - 26 * number} moveto ({line}) show " for number, line in enumerate(story.NOTICE)
    )
    path = work / "notice.ps"
    path.write_text(f"%!PS\n{script}showpage\n")
    run(
        "gs",
        "-q",
        "-dBATCH",
        "-dNOPAUSE",
        "-sDEVICE=bmpmono",
        "-r144",
        "-g720x270",
        f"-sOutputFile={folder / 'ghostscript.bmp'}",
        path,
    )


MAKERS = {
    "png": make_png,
    "jpg": make_jpg,
    "webp": make_webp,
    "tiff": make_tiff,
    "gif": make_gif,
    "bmp": make_bmp,
}
