import * as z from "zod";
import { idleTlsKeys, tlsKeys, tlsSettings } from "../../../src/tls/keys.ts";
import { tlsOptions } from "../../../src/tls/options.ts";
import { refusing } from "../../kit/idle-keys.ts";
import type { RegistrySettings } from "./client.ts";

export const registryKeys = z
  .strictObject({
    url: z.url({ protocol: /^https?$/, error: "expected http:// or https://" }).describe("The registry's address."),
    username: z.string().min(1).optional().describe("The login's user. Default: none."),
    password: z.string().optional().describe("The login's password."),
    register: z
      .boolean()
      .default(true)
      .describe("Whether Millrace registers schemas. If not, they must be there under their subjects."),
    subjects: z
      .enum(["topic", "record", "topic-record"])
      .optional()
      .describe(
        "What names a subject: topic: `<topic>-key` and `<topic>-value` (TopicNameStrategy); record: the record's name " +
          "(RecordNameStrategy); topic-record: both. Default: topic; with one `topic` for all tables: topic-record.",
      ),
    tls: z
      .strictObject(tlsKeys("the registry's"))
      .prefault({})
      .describe("For an https:// address: an authority of your own, a client certificate."),
  })
  .superRefine(
    refusing(function* ({ url, tls }) {
      for (const [key, why] of idleTlsKeys(tls, url)) yield [`tls.${key}`, why];
    }),
  );

export type RegistryOptions = z.output<typeof registryKeys>;

/** Paths are relative to `folder`. Null: there is none. */
export function registryOf(folder: string, given: RegistryOptions | undefined): RegistrySettings | null {
  if (given === undefined) return null;
  const { url, username = null, password = null, register: registers, tls } = given;
  const isEncrypted = url.startsWith("https:");
  return {
    url,
    username,
    password,
    registers,
    tls: () => {
      const options = tlsOptions(tlsSettings(tls, folder), isEncrypted);
      return isEncrypted ? options : null;
    },
  };
}
