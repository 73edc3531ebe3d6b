// Shows the document of the API. Requests that are tried go to this very server, as the one who looks.
"use strict";

// The page has a heading of its own, there is one server, and whoever looks has signed in already.
const none = () => () => null;
const ours = () => ({ wrapComponents: { InfoContainer: none, ServersContainer: none, authorizeBtn: none } });

SwaggerUIBundle({
  url: "/api/v1/openapi.json",
  dom_id: "#viewer",
  plugins: [ours],
  deepLinking: true,
  docExpansion: "none",
  filter: true,
  validatorUrl: null,
  persistAuthorization: false,
});
