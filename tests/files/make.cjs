// The parts of make.py that node does: node make.cjs PART STORY.json TARGET
const fs = require("node:fs");

const [part, source, target] = process.argv.slice(2);
const story = JSON.parse(fs.readFileSync(source, "utf8"));
const save = (data) => fs.writeFileSync(target, data);

const parts = {
  json() {
    const decks = { "deck one": { cars: 60 }, "deck two": { seats: 240, note: story.JACKETS } };
    save(JSON.stringify({ handbook: story.TITLE, rules: story.RULES, decks, open: true, draught: 3.4 }));
  },

  async docx() {
    const d = require("docx");
    const p = (text, heading) => new d.Paragraph({ text, heading });
    const row = (values, tableHeader) =>
      new d.TableRow({ tableHeader, children: values.map((v) => new d.TableCell({ children: [p(v)] })) });
    const table = new d.Table({ rows: [row(story.HEADER, true), ...story.SAILINGS.map((r) => row(r, false))] });
    const { HEADING_1, HEADING_2, HEADING_3 } = d.HeadingLevel;
    const children = [
      p(story.TITLE, HEADING_1), p(story.INTRO),
      p("Boarding", HEADING_2), p("Vehicles", HEADING_3), p(story.VEHICLES), p("Bicycles", HEADING_3), p(story.BICYCLES),
      p("Timetable", HEADING_2), p(story.TIMETABLE), table,
      p("Safety", HEADING_2), p(story.JACKETS), p(story.UMLAUTS),
    ];
    save(await d.Packer.toBuffer(new d.Document({ sections: [{ children }] })));
  },

  async pptx() {
    const Deck = require("pptxgenjs");
    const deck = new Deck();
    for (const [title, lines, notes] of story.SLIDES) {
      const slide = deck.addSlide();
      slide.addText(title, { x: 0.5, y: 0.3, w: 9, h: 0.8, fontSize: 28 });
      slide.addText(lines.map((text) => ({ text, options: { bullet: true, breakLine: true } })), { x: 0.5, y: 1.3, w: 9, h: 2 });
      slide.addNotes(notes);
    }
    deck.addSlide().addTable([story.HEADER, ...story.SAILINGS.slice(0, 6)].map((r) => r.map((text) => ({ text }))), { x: 0.5, y: 0.5, w: 9 });
    await deck.writeFile({ fileName: target });
  },

  async xlsx() {
    const Excel = require("exceljs");
    const book = new Excel.Workbook();
    const sheet = book.addWorksheet("Fuel");
    story.FUEL.forEach((row, r) => row.forEach((value, c) => { sheet.getCell(r + 3, c + 2).value = r && c === 2 ? Number(value) : value; }));
    sheet.mergeCells("F3:G3");
    sheet.getCell("F3").value = "Checked by the purser";
    book.addWorksheet("Crew & notes").addRows([["Name", "Note"], ["Ada", { richText: [{ text: story.JACKETS, font: { bold: true } }] }]]);
    await book.xlsx.writeFile(target);
  },

  async epub() {
    const epub = require("epub-gen-memory").default;
    const chapters = story.SLIDES.map(([title, lines]) => ({ title, content: lines.map((line) => `<p>${line}</p>`).join("") }));
    save(await epub({ title: story.TITLE, author: "The purser" }, chapters));
  },

  async eml() {
    const mailer = require("nodemailer").createTransport({ streamTransport: true, buffer: true, newline: "unix" });
    const rows = [story.HEADER, ...story.SAILINGS.slice(0, 8)].map((r) => `<tr>${r.map((v) => `<td>${v}</td>`).join("")}</tr>`).join("");
    const { message } = await mailer.sendMail({
      from: "Purser <purser@ferry.example>", to: "crew@ferry.example", cc: "harbour@ferry.example",
      subject: "Timetable of Varnö", html: `<h1>Timetable</h1><p>${story.TIMETABLE}</p><table>${rows}</table><p>${story.UMLAUTS}</p>`,
      date: new Date("2026-04-01T08:30:00Z"), messageId: "<2@ferry.example>",
      attachments: [{ filename: "story.html", content: story.HTML }],
    });
    save(message);
  },

  msg() {
    const CFB = require("cfb");
    const file = CFB.utils.cfb_new();
    const header = Buffer.alloc(32);
    header.writeUInt32LE(1, 8); header.writeUInt32LE(1, 16);
    const entries = [];
    const text = (folder, list, id, value) => {
      const data = Buffer.from(value, "utf16le");
      CFB.utils.cfb_add(file, `${folder}/__substg1.0_${id}001F`, data);
      const entry = Buffer.alloc(16);
      entry.writeUInt32LE(parseInt(`${id}001F`, 16), 0); entry.writeUInt32LE(6, 4); entry.writeUInt32LE(data.length + 2, 8);
      list.push(entry);
    };
    text("", entries, "001A", "IPM.Note");
    text("", entries, "0037", "Grüße from Varnö");
    text("", entries, "1000", `${story.INTRO}\r\n\r\n${story.JACKETS}\r\n\r\n${story.UMLAUTS}`);
    text("", entries, "0C1A", "Purser");
    text("", entries, "0C1F", "purser@ferry.example");
    text("", entries, "0E04", "crew@ferry.example");
    CFB.utils.cfb_add(file, "/__properties_version1.0", Buffer.concat([header, ...entries]));
    const person = [];
    text("/__recip_version1.0_#00000000", person, "3001", "Crew");
    text("/__recip_version1.0_#00000000", person, "3003", "crew@ferry.example");
    CFB.utils.cfb_add(file, "/__recip_version1.0_#00000000/__properties_version1.0", Buffer.concat([Buffer.alloc(8), ...person]));
    for (const id of ["00020102", "00030102", "00040102"]) CFB.utils.cfb_add(file, `/__nameid_version1.0/__substg1.0_${id}`, Buffer.alloc(0));
    CFB.utils.cfb_del(file, "/\u0001Sh33tJ5");
    save(CFB.write(file));
  },

  async jpg() {
    const sharp = require("sharp");
    await sharp(target + ".png").rotate(90).jpeg({ quality: 80 }).withMetadata({ orientation: 8 }).toFile(target);
  },
  async webp() { await require("sharp")(target + ".png").webp({ quality: 60 }).toFile(target); },
  async gif() { await require("sharp")(target + ".png").gif().toFile(target); },
};

Promise.resolve(parts[part]()).catch((error) => { console.error(error); process.exit(1); });
