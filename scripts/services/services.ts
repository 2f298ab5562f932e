/**
 * `npm run services -- up [name…]`: starts servers, prints their URLs, and keeps them until Ctrl-C.
 * `npm run services -- list`: says how each would be had on this machine.
 * `npm run services -- jars [list…]`: lists the jars of the search engines and of Debezium anew after a version was changed (needs mvn).
 */
import { definitionOf, serviceNames } from "./definitions.ts";
import { describe, plan } from "./plan.ts";
import type { RunningService, ServiceName } from "./service.ts";

const USUAL: readonly ServiceName[] = ["postgres", "redis", "elasticsearch"];
const USAGE = `usage: npm run services -- up [name…] | list | jars [list…]\nnames: ${serviceNames.join(" ")}\n`;

const [verb, ...rest] = process.argv.slice(2);
switch (verb) {
  case "up":
    await up(rest.length === 0 ? USUAL : rest.map(toName));
    break;
  case "list":
    await list();
    break;
  case "jars": {
    const { writeJarLists } = await import("./packages/jar-lists.ts");
    await writeJarLists(rest);
    break;
  }
  case undefined:
  default:
    process.stderr.write(USAGE);
    process.exit(2);
}

function toName(text: string): ServiceName {
  const name = serviceNames.find((known) => known === text);
  if (name === undefined) {
    process.stderr.write(`no server is called ${text}\n${USAGE}`);
    process.exit(2);
  }
  return name;
}

async function list(): Promise<void> {
  const width = Math.max(...serviceNames.map((name) => name.length));
  const { services } = await plan(serviceNames);
  for (const { name, availability } of services) {
    process.stdout.write(`${name.padEnd(width)}  ${describe(availability)}\n`);
  }
}

async function up(names: readonly ServiceName[]): Promise<void> {
  const { downloads } = await plan(names);
  for (const { what, from, megabytes } of downloads) {
    process.stderr.write(`to fetch: ${what} from ${from}, about ${megabytes} MB\n`);
  }
  const interrupted = new Promise<void>((resolve) => {
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.once(signal, () => resolve());
  });
  await using stack = new AsyncDisposableStack();
  const startOne = async (name: ServiceName): Promise<RunningService> => {
    const service = stack.use(await definitionOf(name).start());
    process.stdout.write(`${name}=${service.url}\n`);
    return service;
  };
  const started = await Promise.race([Promise.allSettled(names.map(startOne)), interrupted]);
  const failed = started?.filter((result) => result.status === "rejected") ?? [];
  if (failed.length > 0) {
    for (const { reason } of failed) process.stderr.write(`${String(reason)}\n`);
    process.exitCode = 1;
    return;
  }
  if (started !== undefined) process.stderr.write("up; Ctrl-C stops them and deletes their data\n");
  // Without this the process would end, because the guards do not keep it alive.
  const stay = setInterval(() => {}, 60_000);
  await interrupted;
  clearInterval(stay);
}
