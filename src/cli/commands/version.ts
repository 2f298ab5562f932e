import { VERSION } from "../../version.ts";
import type { CommandLine } from "../command-line.ts";
import { EXIT } from "../exit-codes.ts";

export function addVersion({ program, action }: CommandLine): void {
  program
    .command("version")
    .description("print the version")
    .action(
      action("none", async (session) => {
        session.print({ version: VERSION, node: process.version }, VERSION);
        return EXIT.done;
      }),
    );
}
