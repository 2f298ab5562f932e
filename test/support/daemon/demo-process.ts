/** `npm run demo` as a process, on the servers of this test run. */
import { spawn } from "node:child_process";
import { join } from "node:path";
import { elasticsearchUrl, postgres, redisUrl } from "../run/services.ts";
import { patient } from "../run/waiting.ts";

const DEMO = join(import.meta.dirname, "../../../scripts/demo/demo.ts");
const WITHIN_MS = 240_000;

export interface Demo {
  /** What it has said so far. */
  readonly said: () => string;
  readonly interrupt: () => void;
  readonly exitCode: Promise<number | null>;
}

export function startDemo(
  args: readonly string[],
  environment: Readonly<Record<string, string | undefined>> = {},
): Demo {
  const child = spawn(process.execPath, [DEMO, ...args], {
    env: {
      ...process.env,
      MILLRACE_TEST_POSTGRES_URL: postgres().url,
      MILLRACE_TEST_REDIS_URL: redisUrl(),
      MILLRACE_TEST_ELASTICSEARCH_URL: elasticsearchUrl(),
      ...environment,
    },
    stdio: ["ignore", "pipe", "pipe"],
    timeout: patient(WITHIN_MS),
  });
  let text = "";
  child.stdout.on("data", (chunk) => (text += String(chunk)));
  child.stderr.on("data", (chunk) => (text += String(chunk)));
  const exitCode = new Promise<number | null>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", resolve);
  });
  return { said: () => text, interrupt: () => child.kill("SIGINT"), exitCode };
}
