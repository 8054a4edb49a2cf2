//! What is not meant to be served and often is by accident. Version 2026-11.
//!
//! In order: the last entry that matches decides. `!` exempts. Letters are compared in lower case.

pub(crate) const SENSITIVE: &[&str] = &[
    // Dotfiles and folders: tools keep state and secrets in them, and no application serves one ...
    // (A name that begins with two dots is a title more often than a file.)
    "**/.[!.]*",
    "**/.[!.]*/**",
    // ... but for names that are words or formats rather than files: `.NET`, `/posts/.json`,
    "!**/.net",
    "!**/.net{-,_, }*",
    "!**/.net/**",
    "!**/.{json,rss,atom,xml,html,csv,txt,ics}",
    // what is meant for everybody (RFC 8615),
    "!**/.well-known/**",
    // the dependencies that Vite and others prepare for their development servers,
    "!**/node_modules/.{vite,vite-temp,cache,pnpm,bun}/**",
    "!/.{vite,nuxt,svelte-kit,storybook,vitepress,vuepress,astro,quasar}/**",
    "!/{@fs,_nuxt}/**/.{nuxt,svelte-kit,storybook,vitepress,vuepress,astro,yarn}/**",
    // and files of users, whatever they are called (Nextcloud's WebDAV, Matrix media).
    // The folders before are spelled out: a script below `/.env/` would make PHP print that file.
    "!/{remote,public}.php/**",
    "!/{nextcloud,owncloud,cloud}/{remote,public}.php/**",
    "!/_matrix/**",
    // Dot segments: browsers resolve them before they send a path. One that is left, in whatever
    // spelling, is on its way out of a folder. `..data` is where Kubernetes mounts secrets.
    "**/..",
    "**/../**",
    "**/..data/**",
    // Repositories: the whole source and its history. `git~1` is `.git` on Windows.
    "**/.{git,svn,hg,bzr}",
    "**/.{git,svn,hg,bzr}/**",
    "**/.gitconfig",
    "**/.git-credentials",
    "**/{git,svn}~1/**",
    "**/cvs/{root,entries,repository}",
    // Environments: where every framework keeps its secrets. With all their variants.
    "**/.env",
    "**/.env/**",
    "**/.env{.,-,_,~}*",
    "**/*.env",
    "**/env.{php,bak,old,local,prod,production}",
    // Credentials of clouds, shells and package managers.
    "**/.{aws,azure,boto,docker,gcloud,gnupg,kube,ssh,config}/**",
    "**/.{htpasswd,htaccess,netrc,npmrc,pgpass,pypirc,my.cnf,s3cfg,yarnrc,bash_history,mysql_history,psql_history}",
    "**/{credentials,secrets}.{json,yml,yaml,toml,xml,ini,txt}",
    "**/{client_secret,service-account,service_account,serviceaccountkey,gcp-key,firebase-adminsdk}*.json",
    "**/aws-credentials*",
    // Private keys and key stores. Certificates (.crt, .cer) are public,
    // and so are signatures (.asc, .gpg) and the keys that packages are signed with.
    "**/*.{pem,key,p12,pfx,jks,keystore,kdb,kdbx,ppk}",
    "**/secring.{gpg,pgp,asc}",
    "!**/{gpg,*[.-]gpg}.key",
    "**/id_{rsa,dsa,ecdsa,ed25519}",
    "**/id_{rsa,dsa,ecdsa,ed25519}.*",
    // Databases and dumps.
    "**/*.{sql,sqlite,sqlite3,sqlitedb,db,mdb,dump,rdb,dmp,bson}",
    "**/*.{sql,dump,sqlite,db}.{gz,bz2,xz,zip,zst,7z,tar,tar.gz,tgz}",
    // Backups, and what editors leave behind.
    "**/*.{bak,backup,old,orig,save,sav,swp,swo,swn,tmp~,copy,rej}",
    "**/*.*~",
    "**/{dockerfile,makefile,id_rsa}~",
    "**/*.php_*",
    "**/#*#",
    "**/*.{php,asp,aspx,jsp,rb,py,inc,conf,cfg,config,ini,yml,yaml,json,xml}.{1,2,txt,dist,sample,inc,save,default}",
    "**/{backup,backups,dump,www,wwwroot,site,website,htdocs,public_html,db,database}.{zip,tar,tar.gz,tgz,rar,7z,gz,bz2}",
    "**/{thumbs.db,desktop.ini,ehthumbs.db}",
    // Configuration that names hosts and passwords.
    "**/wp-config",
    "**/wp-config.*",
    "**/wp-config{-,_}*.{php,bak,old,txt,zip}",
    "**/wp-config.php*/**",
    "**/{config,configuration,settings,database,local_settings,parameters}.{inc,ini,inc.php,php.txt,yml,yaml,py,rb}",
    "**/{web,app,machine}.config",
    "**/appsettings*.json",
    "**/application{,-*}.{yml,yaml,properties}",
    "**/{php,php-fpm,my,nginx,httpd,apache2}.{ini,cnf,conf}",
    "**/localsettings.php?*",
    "**/{web-inf,meta-inf}/**",
    // How the machines are built.
    // (Deeper down, `/docs/dockerfile/` is a page about them.)
    "/{dockerfile,containerfile,vagrantfile,jenkinsfile,procfile,makefile,rakefile,gemfile,pipfile}",
    "/{dockerfile,jenkinsfile}.*",
    "**/{docker-compose,compose,docker-stack}*.{yml,yaml}",
    "**/{bitbucket-pipelines,azure-pipelines,cloudbuild,buildspec,appveyor,serverless,ansible,playbook,inventory}.{yml,yaml}",
    "**/*.{tf,tfvars,tfstate}",
    "**/*.tfstate.*",
    "**/{composer,package-lock,npm-shrinkwrap}.{json,lock}",
    "**/{yarn,pnpm-lock,gemfile,poetry,pipfile,cargo,composer}.{lock,yaml}",
    // Logs and crash dumps.
    "**/{error_log,access_log,npm-debug.log,yarn-error.log,debug.log,laravel.log,error.log,access.log}",
    "**/{core,heapdump,hs_err_pid}.{dump,hprof,log}",
    // Status pages of servers, and what attackers look for first.
    "/{server-status,server-info,nginx_status,fpm-status,php-fpm-status}",
    "/server-status/**",
    "**/{phpinfo,phpversion,adminer,php_info}.php",
    "**/actuator/{env,heapdump,threaddump,dump,trace,logfile,jolokia,configprops,beans,mappings,shutdown,gateway}",
    "/debug/{pprof,vars}/**",
    "**/{elmah,trace}.axd",
    "**/sftp-config.json",
    "**/actuator/{env,jolokia,gateway}/**",
    "**/vendor/phpunit/**",
    "**/{cgi-bin}/{php,sh,bash,test-cgi,printenv}",
    // Repositories that an application shows on purpose: GitLab, Gitea, Forgejo and their interfaces.
    "!/[!.]*/**/-/{blob,raw,tree,blame,commits,edit,new,find_file,refs,archive,network,snippets,jobs,wikis}/**",
    "!/-/snippets/**",
    "!/[!.]*/*/_{edit,new,delete,upload}/**",
    "!/[!.]*/*/{src,raw,blame,commits,media,render,archive}/{branch,commit,tag}/**",
    "!/api/v{1,4}/{projects,repos}/**",
    // Files of users once more, after the rules on names.
    "!/{remote,public}.php/{dav,webdav,caldav,carddav}/**",
    "!/{nextcloud,owncloud,cloud}/{remote,public}.php/{dav,webdav,caldav,carddav}/**",
    "!/_matrix/{media,client}/**",
    "!/rails/active_storage/**",
    "!/s/*/download/**",
    "!/[!.]*/[!.]*/**/uploads/????????????????????????????????/*",
    "!/-/project/*/uploads/*/*",
    // Whatever was allowed: a way out of the root is none.
    "/../**",
];
