import { createConnection } from "node:net";
import { expect, test } from "vitest";
import { kafka } from "../../scripts/services/servers/kafka.ts";

const API_VERSIONS = 18;

test("an own Kafka answers on the same port after SIGKILL", { tags: "long" }, async () => {
  await using server = await kafka.start({ own: true });
  expect(await versionsOf(server.port)).toContain(API_VERSIONS);
  await server.kill();
  await expect(versionsOf(server.port)).rejects.toThrow();
  await server.start();
  expect(await versionsOf(server.port)).toContain(API_VERSIONS);
});

/**
 * The keys of the requests that a broker knows, by an ApiVersions request of version 0.
 * https://kafka.apache.org/protocol#The_Messages_ApiVersions
 */
async function versionsOf(port: number): Promise<readonly number[]> {
  const { promise, resolve, reject } = Promise.withResolvers<readonly number[]>();
  const socket = createConnection({ host: "127.0.0.1", port });
  socket.once("error", reject);
  socket.once("close", () => reject(new Error("the broker closed the connection")));
  // Length, key, version, correlation id, and no client id.
  const request = Buffer.from([0, 0, 0, 10, 0, API_VERSIONS, 0, 0, 0, 0, 0, 7, 0xff, 0xff]);
  socket.write(request);
  let answer = Buffer.alloc(0);
  socket.on("data", (bytes) => {
    answer = Buffer.concat([answer, bytes]);
    if (answer.length < 4 || answer.length < 4 + answer.readInt32BE(0)) return;
    const count = answer.readInt32BE(10);
    resolve(Array.from({ length: count }, (_, i) => answer.readInt16BE(14 + i * 6)));
    socket.destroy();
  });
  return await promise;
}
