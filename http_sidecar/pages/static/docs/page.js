// Addresses are relative, so that the page also works behind a proxy that adds a prefix.
SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  displayOperationId: true,
  displayRequestDuration: true,
  // Kept in the page only: a key in the browser's storage would outlive the visit.
  persistAuthorization: false,
  // Otherwise the document's address would go to a validator on the internet.
  validatorUrl: null,
});
