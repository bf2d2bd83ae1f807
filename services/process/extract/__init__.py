"""Files into segments of text: `extractor` starts and watches a child process, `child` and the readers run in it."""
