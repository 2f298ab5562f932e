import { cli } from "./cli.ts";

const exitCode = await cli(process.argv.slice(2));
// What a pipe has not taken yet would be lost at the exit.
process.stdout.write("", () => process.exit(exitCode));
