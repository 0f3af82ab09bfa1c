// An issuer built on oidc-provider: two applications that get tokens of their own, for any audience that they name.
//
//   node issuer.mjs ALGORITHM
//
// Prints its address, which is its `iss`, once it listens on loopback.
import { generateKeyPairSync } from "node:crypto";
import { createServer } from "node:http";
import Provider from "oidc-provider";

const algorithm = process.argv[2] ?? "RS256";
const made = algorithm.startsWith("ES")
  ? generateKeyPairSync("ec", { namedCurve: "P-256" })
  : generateKeyPairSync("rsa", { modulusLength: 2048 });
const jwk = { ...made.privateKey.export({ format: "jwk" }), kid: "signing", use: "sig", alg: algorithm };

const server = createServer().listen(0, "127.0.0.1", () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const application = (name) => ({
    client_id: name,
    client_secret: `secret-of-${name}-0123456789abcdef`,
    grant_types: ["client_credentials"],
    redirect_uris: [],
    response_types: [],
    id_token_signed_response_alg: algorithm,
  });
  const provider = new Provider(issuer, {
    clients: ["app", "stranger"].map(application),
    jwks: { keys: [jwk] },
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      resourceIndicators: {
        enabled: true,
        getResourceServerInfo: (_, audience) => ({
          audience,
          scope: "inference",
          accessTokenFormat: "jwt",
          accessTokenTTL: 600,
          jwt: { sign: { alg: algorithm } },
        }),
      },
    },
    extraTokenClaims: (_, token) => (token.clientId === "app" ? { roles: ["modelport.user"] } : {}),
  });
  server.on("request", provider.callback());
  console.log(issuer);
});
