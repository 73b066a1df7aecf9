// What matrix-js-sdk does to log in by OAuth 2.0; the page in between is somebody else's part.

import { createClient } from "matrix-js-sdk";
import { OAuth2 } from "matrix-js-sdk/lib/oauth/index.js";

const logins = new Map();

export const oauthMethods = {
    /** Finds the authorization server, registers, and gives the address that the user is to open. */
    async oauthBegin({ name, baseUrl, redirectUri, prompt }) {
        const client = createClient({ baseUrl });
        const metadata = await client.getAuthMetadata();
        const clientId = await OAuth2.registerClient(metadata, {
            client_name: "Js App",
            client_uri: "https://example.com/",
            logo_uri: "https://example.com/logo.png",
            redirect_uris: [redirectUri],
            application_type: "web",
        });
        const oauth = new OAuth2(metadata, { clientId });
        logins.set(name, { oauth, baseUrl, redirectUri });
        const url = await oauth.generateAuthorizationCodeGrantUrl("state", redirectUri, "fragment", prompt);
        return { url, deviceId: oauth.context.deviceId };
    },

    /** Exchanges the code that came back, and says who is logged in. */
    async oauthComplete({ name, code }) {
        const { oauth, redirectUri } = logins.get(name);
        return loggedIn(name, await oauth.completeAuthorizationCodeGrant(code, redirectUri));
    },

    /** Begins a login that is allowed in a browser elsewhere. */
    async oauthDevice({ name }) {
        const login = logins.get(name);
        login.session = await login.oauth.startDeviceAuthorizationGrant();
        return { url: login.session.verification_uri_complete };
    },

    /** The end of that login. */
    async oauthDeviceEnd({ name }) {
        const login = logins.get(name);
        return loggedIn(name, await login.oauth.waitForDeviceAuthorizationGrant(login.session));
    },

    async oauthRefresh({ name, refreshToken }) {
        return loggedIn(name, await logins.get(name).oauth.performRefreshTokenGrant(refreshToken));
    },

    async oauthRevoke({ name, token }) {
        await logins.get(name).oauth.revokeToken(token, "access_token");
        return {};
    },
};

async function loggedIn(name, tokens) {
    const client = createClient({ baseUrl: logins.get(name).baseUrl, accessToken: tokens.access_token });
    return { ...(await client.whoami()), ...tokens };
}
