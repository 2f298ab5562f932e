import { cli } from "./cli.ts";

/**
 * Written files (reports, exports, a DuckDB file) hold rows, so only their owner may read them. Set before any other
 * import.
 */
process.umask(process.umask() | 0o077);
const exitCode = await cli(process.argv.slice(2));
// Exiting earlier would lose output that the pipe has not taken yet.
process.stdout.write("", () => process.exit(exitCode));
