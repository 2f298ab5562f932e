/**
 * The form in which rows pass from a Postgres source to a Postgres sink undecoded: each row as in a binary COPY, a count of
 * fields and then the fields (chapter "COPY" of the Postgres manual), without the stream's header and trailer.
 */
export const RAW_FORM = "postgres binary copy";
