/**
 * A schema registry with Confluent's interface: https://docs.confluent.io/platform/current/schema-registry/develop/api.html (and
 * those of Apicurio and Karapace, which have the same).
 */
import { Agent, type buildConnector, request } from "undici";
import type { ConnectionOptions } from "node:tls";
import type { FreshPassword } from "../../../src/core/contracts/connector.ts";
import { serverAt } from "../../../src/core/system-errors.ts";
import { addressOf } from "../../../src/tls/failure.ts";
import * as z from "zod";
import { classifyRegistry, foreignAnswer, jsonIn, refusedBy } from "./errors.ts";

export interface RegistrySettings {
  readonly url: string;
  readonly username: string | null;
  readonly password: string | null;
  /** In place of `password`, for each client. */
  readonly freshPassword?: FreshPassword | undefined;
  /** Null: the address is none of TLS. Made when the client connects: a file may have changed. */
  readonly tls: () => ConnectionOptions | null;
  /** Whether schemas that are missing are registered; if not they must be there. */
  readonly registers: boolean;
}

type SchemaType = "AVRO" | "JSON";

interface SubjectSchema {
  readonly subject: string;
  readonly schemaType: SchemaType;
  readonly schema: object | string;
}

const REGISTERED = z.object({ id: z.int() });
const TYPES = z.array(z.string());
const ANSWERS_WITHIN_MS = 30_000;
const MEDIA_TYPE = "application/vnd.schemaregistry.v1+json";
const ANSWER_BYTES_MAX = 4 * 1024 * 1024;

export class RegistryClient implements AsyncDisposable {
  readonly #settings: RegistrySettings;
  readonly #agent: Agent;
  readonly #base: string;
  readonly #login: string | null;

  static async open(settings: RegistrySettings, signal: AbortSignal): Promise<RegistryClient> {
    return new RegistryClient(settings, await settings.freshPassword?.(signal));
  }

  constructor(settings: RegistrySettings, fresh?: string) {
    this.#settings = settings;
    const { username, password } = settings;
    this.#login = username === null ? null : Buffer.from(`${username}:${fresh ?? password ?? ""}`).toString("base64");
    const tls = settings.tls();
    const options = { connections: 2, maxResponseSize: ANSWER_BYTES_MAX };
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- Node's options of TLS, without an address
    this.#agent = new Agent(tls === null ? options : { ...options, connect: tls as buildConnector.BuildOptions });
    this.#base = settings.url.replace(/\/+$/, "");
  }

  /** For messages. */
  get #server(): string {
    const { host, port } = addressOf(new URL(this.#base));
    return serverAt(host, port);
  }

  /** The id that records of the schema name. Registering a schema that is there gives the id that it has. */
  async idOf({ subject, schemaType, schema }: SubjectSchema, signal: AbortSignal): Promise<number> {
    const versions = this.#settings.registers ? "/versions" : "";
    const body = { schemaType, schema: JSON.stringify(schema) };
    const path = `/subjects/${encodeURIComponent(subject)}${versions}`;
    const { id } = await this.#ask(REGISTERED, "POST", path, signal, { subject, body });
    return id;
  }

  /** The levels that it knows; for `check`. */
  async types(signal: AbortSignal): Promise<readonly string[]> {
    return await this.#ask(TYPES, "GET", "/schemas/types", signal);
  }

  async #ask<Answer>(
    form: z.ZodType<Answer>,
    method: "GET" | "POST",
    path: string,
    signal: AbortSignal,
    about: { readonly subject?: string; readonly body?: object } = {},
  ): Promise<Answer> {
    const until = AbortSignal.any([signal, AbortSignal.timeout(ANSWERS_WITHIN_MS)]);
    let status: number;
    let text: string;
    try {
      const answer = await request(`${this.#base}${path}`, {
        method,
        dispatcher: this.#agent,
        signal: until,
        headers: this.#headers(about.body !== undefined),
        ...(about.body === undefined ? {} : { body: JSON.stringify(about.body) }),
      });
      status = answer.statusCode;
      text = await answer.body.text();
    } catch (error) {
      throw classifyRegistry(error, this.#server, signal);
    }
    if (status !== 200) throw refusedBy(status, text, this.#server, about.subject);
    const found = form.safeParse(jsonIn(text));
    if (!found.success) throw foreignAnswer(status, this.#server);
    return found.data;
  }

  #headers(hasBody: boolean): Record<string, string> {
    return {
      accept: `${MEDIA_TYPE}, application/json`,
      ...(hasBody ? { "content-type": MEDIA_TYPE } : {}),
      ...(this.#login === null ? {} : { authorization: `Basic ${this.#login}` }),
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#agent.destroy();
  }
}
