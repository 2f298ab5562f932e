/** Runs a program of Millrace once its roles have what `check` prints: `least-program.ts PROGRAM ARGUMENT…`. */
import { pathToFileURL } from "node:url";
import { putRight } from "./least-mode.ts";

const [program = ""] = process.argv.splice(1, 2).slice(1);
process.argv.splice(1, 0, program);
// A server that can't be reached now is what the program itself has to deal with.
await putRight(process.cwd()).catch(() => undefined);
await import(pathToFileURL(program).href);
