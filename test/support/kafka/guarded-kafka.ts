/** A Kafka of a test's own with logins, TLS and an authorizer, each at a port of its own. */
import { pbkdf2Sync, randomBytes } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { Admin, alterUserScramCredentialsV0, Connection } from "@platformatic/kafka";
import { freePort } from "../../../scripts/services/processes/port.ts";
import type { RunningService } from "../../../scripts/services/service.ts";
import { type Certificate, selfSigned } from "../network/certificate.ts";
import { ownKafka } from "../run/services.ts";
import { temporaryFolder } from "../run/temporary-folder.ts";

const LISTENERS = ["login", "tls", "mutual", "named"] as const;
export type Listener = (typeof LISTENERS)[number] | "plain";

/** `plain` by PLAIN, who has no ACLs, and `scrammed` by SCRAM, who may do everything. */
export const KAFKA_PASSWORD = "secret-canary";

export class GuardedKafka implements AsyncDisposable {
  readonly broker: RunningService;
  /** May do everything. */
  readonly admin: Admin;
  /** The server's certificate, one of a client that it trusts, and one that nobody does. */
  readonly own: Certificate;
  readonly client: Certificate;
  readonly stranger: Certificate;
  readonly folder: string;
  readonly #first: number;
  readonly #stack: AsyncDisposableStack;

  private constructor(
    broker: RunningService,
    certificates: Pick<GuardedKafka, "own" | "client" | "stranger">,
    place: { readonly folder: string; readonly first: number },
    stack: AsyncDisposableStack,
  ) {
    this.broker = broker;
    this.own = certificates.own;
    this.client = certificates.client;
    this.stranger = certificates.stranger;
    this.folder = place.folder;
    this.#first = place.first;
    this.#stack = stack;
    this.admin = new Admin({ clientId: "test", bootstrapBrokers: [`127.0.0.1:${broker.port}`] });
  }

  /** `more`: settings of the broker. */
  static async start(more: Readonly<Record<string, string>> = {}): Promise<GuardedKafka> {
    await using stack = new AsyncDisposableStack();
    const files = stack.use(temporaryFolder());
    const own = stack.use(await selfSigned(["localhost"]));
    const client = stack.use(await selfSigned(["client"]));
    const stranger = stack.use(await selfSigned(["localhost"]));
    const keystore = files.file("server.pem");
    await writeFile(keystore, (await readFile(own.keyPath, "utf8")) + own.certificate);
    const first = await freePort(LISTENERS.length);
    const jaas = (kind: string, rest: string): string =>
      `org.apache.kafka.common.security.${kind.toLowerCase()}.${kind}LoginModule required${rest};`;
    const broker = stack.use(
      await ownKafka({
        scram: { scrammed: KAFKA_PASSWORD },
        settings: (plain) => {
          const ports = { PLAINTEXT: plain, LOGIN: first, TLS: first + 1, MUTUAL: first + 2, NAMED: first + 3 };
          const at = (name: string): string => (/TLS|MUTUAL/.test(name) ? "localhost" : "127.0.0.1");
          const listed = Object.entries(ports).map(([name, number]) => `${name}://${at(name)}:${number}`);
          return {
            listeners: [
              ...listed.map((one) => one.replace("localhost", "127.0.0.1")),
              `CONTROLLER://127.0.0.1:${plain + 1}`,
            ].join(),
            "advertised.listeners": listed.join(),
            "listener.security.protocol.map":
              "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,LOGIN:SASL_PLAINTEXT,TLS:SSL,MUTUAL:SSL,NAMED:SSL",
            "listener.name.login.sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
            "listener.name.login.plain.sasl.jaas.config": jaas("Plain", ` user_plain="${KAFKA_PASSWORD}"`),
            "listener.name.login.scram-sha-256.sasl.jaas.config": jaas("Scram", ""),
            "listener.name.login.scram-sha-512.sasl.jaas.config": jaas("Scram", ""),
            "listener.name.login.scram-sha-512.connections.max.reauth.ms": "2000",
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": keystore,
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": client.certificatePath,
            "listener.name.mutual.ssl.client.auth": "required",
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "allow.everyone.if.no.acl.found": "false",
            "super.users": `User:ANONYMOUS;User:CN=${client.commonName};User:scrammed`,
            ...more,
          };
        },
      }),
    );
    return new GuardedKafka(broker, { own, client, stranger }, { folder: files.path, first }, stack.move());
  }

  port(listener: Listener): number {
    return listener === "plain" ? this.broker.port : this.#first + LISTENERS.indexOf(listener);
  }

  /** The password of `scrammed` for SCRAM-SHA-512, whose sessions are renewed every two seconds. */
  async setPassword(password: string): Promise<void> {
    const salt = randomBytes(20);
    await using stack = new AsyncDisposableStack();
    const connection = stack.adopt(new Connection("test"), (one) => one.close());
    await connection.connect("127.0.0.1", this.port("plain"));
    const saltedPassword = pbkdf2Sync(password, salt, 4096, 64, "sha512");
    const credential = { name: "scrammed", mechanism: 2, iterations: 4096, salt, saltedPassword };
    await alterUserScramCredentialsV0.api.async(connection, [], [credential]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.admin.close();
    await this.#stack.disposeAsync();
  }
}
