/** With what the page asks for logs: a link's credential out of its URL; and where people log in if that won't do. */

let link = "";

/** @param {string} credential  What goes along with every request from now on; "": nothing. */
export function useLink(credential) {
  link = credential;
}

/** @param {string} url @returns {string}  The same with the link's credential, if there is one. */
export function withLink(url) {
  return link ? `${url}${url.includes("?") ? "&" : "?"}link=${encodeURIComponent(link)}` : url;
}

/**
 * @param {string} login  The page where one logs in, as the server names it.
 * @param {string} base  Tailer's root.
 * @returns {string}  Its URL, which leads back to this page if that is of the same server.
 */
export function loginUrl(login, base) {
  const url = new URL(login, new URL(base, document.baseURI));
  const { origin, pathname, search, hash } = location;
  if (url.origin === origin) url.searchParams.set("next", pathname + search + hash);
  return url.href;
}
