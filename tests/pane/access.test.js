import assert from "node:assert/strict";
import test from "node:test";

import { useLink, withLink } from "../../tailer/static/access.js";

test("a link's credential goes along with what is asked, wherever the URL ends", () => {
  assert.equal(withLink("/jobs/a"), "/jobs/a");
  useLink("WyJhIiw2MF0.aB-c_d.eF");
  assert.equal(withLink("/jobs/a"), "/jobs/a?link=WyJhIiw2MF0.aB-c_d.eF");
  assert.equal(withLink("/jobs/a/log?tail=1"), "/jobs/a/log?tail=1&link=WyJhIiw2MF0.aB-c_d.eF");
  useLink("");
  assert.equal(withLink("/jobs/a"), "/jobs/a");
});
