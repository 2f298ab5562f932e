import { cli } from "./cli.ts";

/** What is written, here and by what is loaded (reports, exports, a DuckDB file), holds rows: it is for its owner alone. */
process.umask(process.umask() | 0o077);
const exitCode = await cli(process.argv.slice(2));
// What a pipe has not taken yet would be lost at the exit.
process.stdout.write("", () => process.exit(exitCode));
