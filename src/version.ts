import { readFileSync } from "node:fs";
import { installed } from "./core/installation.ts";

const { version }: { version: string } = JSON.parse(readFileSync(installed("package.json"), "utf8"));

export const VERSION = version;
/** The producer's name in every envelope. */
export const PRODUCER = `millrace/${VERSION}`;
