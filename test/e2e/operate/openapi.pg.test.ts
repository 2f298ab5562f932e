/**
 * A real daemon is sent what its OpenAPI document allows, and what it forbids, by Schemathesis: every answer is one that the
 * document describes, none is a failure of the daemon, and the daemon goes on.
 * @module-tag long
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { schemathesis } from "../../../scripts/services/tools/schemathesis.ts";
import { freePort } from "../../../scripts/services/processes/port.ts";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";

const LOOKS = "token-that-looks-0123456789abcdef";
const ACTS = "token-that-acts-0123456789abcdefg";
/** Below what the daemon lets one address ask. */
const RATE = "15/s";
const SECONDS = 45;

test.each([
  ["viewer", LOOKS],
  ["operator", ACTS],
])("as %s", async (role, token) => {
  const port = await freePort();
  await using pipeline = await RunningPipeline.start(
    "create table item (id int primary key, body text); insert into item values (1, 'a')",
    {
      kinds: ["duckdb"],
      configure: (config) => ({
        ...config,
        admin: {
          listen: `127.0.0.1:${port}`,
          tokens: [
            { token: LOOKS, role: "viewer" },
            { token: ACTS, role: "operator" },
          ],
        },
      }),
    },
  );
  await pipeline.settled();
  const url = `http://127.0.0.1:${port}`;
  const { folder } = pipeline.installation;
  // 504: what somebody waited for did not come in time.
  const wanted = '[checks.not_a_server_error]\nexpected-statuses = ["2xx", "3xx", "4xx", "504"]\n';
  writeFileSync(join(folder, "schemathesis.toml"), wanted);
  const { exitCode, said } = await schemathesis(
    [
      "run",
      `${url}/api/v1/openapi.json`,
      `--header=Authorization: Bearer ${token}`,
      `--rate-limit=${RATE}`,
      `--max-time=${SECONDS}`,
      "--checks=all",
      // Each answer that is not wanted is shown, instead of the first of an operation alone.
      "--continue-on-failure",
      // A method that a path does not have is 404; and a viewer's orders are refused however well they are formed.
      `--exclude-checks=unsupported_method${role === "viewer" ? ",positive_data_acceptance" : ""}`,
    ],
    folder,
  );
  expect({ exitCode, said: exitCode === 0 ? "" : said }).toEqual({ exitCode: 0, said: "" });
  // It may have paused a sink.
  await pipeline.installation.command("resume");
  await pipeline.run("insert into item values (2, 'b')");
  await pipeline.expectEqual(["item"]);
});
