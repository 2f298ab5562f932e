/** What stands for a value that the log did not carry: Debezium's unavailable.value.placeholder, in the forms of its types. */
export const UNAVAILABLE = "__debezium_unavailable_value";
const bytes = Buffer.from(UNAVAILABLE);
export const UNAVAILABLE_BASE64 = bytes.toString("base64");
/** Elements of an array of numbers: the placeholder's bytes. */
export const UNAVAILABLE_CODES = JSON.stringify([...bytes]);
/** The name-based UUID (version 3) of the placeholder. */
export const UNAVAILABLE_UUID = "b68a35a7-17ad-35b3-af2a-ae46edb4545a";
/** An hstore as JSON text. */
export const UNAVAILABLE_HSTORE = JSON.stringify(JSON.stringify({ [UNAVAILABLE]: UNAVAILABLE }));
