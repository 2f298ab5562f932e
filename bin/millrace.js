#!/usr/bin/env node
// Says in one line what an older Node would say in a stack trace; the command line itself is src/cli/main.ts.
const major = Number(process.versions.node.split(".")[0]);
if (major < 24) {
  process.stderr.write(
    `millrace needs Node 24 or newer; this is ${process.version}. In a checkout, "npm ci" brings one and "npx millrace" uses it.\n`,
  );
  process.exit(1);
}
await import("../dist/millrace.js");
