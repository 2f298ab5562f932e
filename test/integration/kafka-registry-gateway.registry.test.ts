/** A schema registry behind a proxy that answers in its place. */
import { randomUUID } from "node:crypto";
import { expect, test } from "vitest";
import { RegistryClient } from "../../connectors/kafka/registry/client.ts";
import { timeout } from "../conformance/stage.ts";
import { httpGateway, JSON_TYPE, OF_OTHERS, type Reply } from "../support/network/http-gateway.ts";
import { registryUrl } from "../support/run/services.ts";

const FOREIGN: readonly Reply[] = [
  ...OF_OTHERS,
  { status: 409, headers: JSON_TYPE, body: '{"error":"Conflict"}' },
  { status: 422, headers: { "content-type": "text/html" }, body: "<html>Unprocessable</html>" },
];

test("what something else answers is neither a schema's id nor a refusal of the schema", async () => {
  let foreign: Reply | null = null;
  await using gateway = await httpGateway(registryUrl(), async ({ pass }) => foreign ?? (await pass()));
  const settings = { username: null, password: null, tls: () => null };
  const url = `${gateway.url}${new URL(registryUrl()).pathname}`;
  const schema = { type: "record", name: "Value", fields: [{ name: "id", type: "long" }] };
  const asked = { subject: `gateway-${randomUUID()}-value`, schemaType: "AVRO", schema } as const;
  for (const registers of [true, false]) {
    await using client = new RegistryClient({ ...settings, url, registers });
    for (foreign of FOREIGN) {
      const error = await client.idOf(asked, timeout()).catch((thrown: unknown) => thrown);
      expect(error).toMatchObject({ code: "MR2001", kind: "retryable" });
    }
    foreign = FOREIGN[2]!;
    expect(await client.types(timeout()).catch((thrown: unknown) => thrown)).toMatchObject({ code: "MR2001" });
    foreign = null;
    expect(await client.idOf(asked, timeout())).toBeGreaterThan(0);
  }
  // Its own word counts.
  await using client = new RegistryClient({ ...settings, url, registers: false });
  const missing = await client.idOf({ ...asked, subject: randomUUID() }, timeout()).catch((thrown: unknown) => thrown);
  expect(missing).toMatchObject({ message: expect.stringContaining("does not have the schema") });
});
